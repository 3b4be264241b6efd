"""Light to Frame. In: settings of one camera. Out: pictures in leased frame slots.

Each camera lives in its line's grab thread; only `trigger` may be called from elsewhere. A failure is a CameraError:
the part becomes FAULT, the line tries again.
"""

from __future__ import annotations

from pathlib import Path

from edge_agent.camera.aravis import AravisCamera
from edge_agent.camera.base import Camera
from edge_agent.camera.folder import FolderCamera
from edge_agent.camera.synthetic import SyntheticCamera
from edge_agent.camera.v4l2 import V4l2Camera
from edge_agent.camera.video import open_video
from edge_agent.camera_settings import AravisCamera as AravisSettings
from edge_agent.camera_settings import CameraSettings
from edge_agent.camera_settings import FolderCamera as FolderSettings
from edge_agent.camera_settings import SyntheticCamera as SyntheticSettings
from edge_agent.camera_settings import V4l2Camera as V4l2Settings
from edge_agent.camera_settings import VideoCamera as VideoSettings


def open_camera(settings: CameraSettings, base: Path) -> Camera:
    """Return the camera that the settings describe; paths are relative to `base`. Opening the device comes later."""
    match settings:
        case SyntheticSettings():
            return SyntheticCamera(settings)
        case FolderSettings():
            return FolderCamera(settings, (base / settings.path).resolve())
        case AravisSettings():
            return AravisCamera(settings)
        case V4l2Settings():
            return V4l2Camera(settings)
        case VideoSettings():
            return open_video(settings, base)
