#!/usr/bin/env bash
# Builds out/edge-agent_VERSION_ARCH.deb: `make deb`. Needs dpkg-deb and the distribution's Python with its venv module; the wheels
# come from where pip finds them, at build time only. The package runs on the same distribution and architecture it is built on.
# DEB_VERSION=0.1.0+site2 is another packaging of version 0.1.0; the version itself is in edge_agent/__init__.py.
set -euo pipefail
umask 022   # what the package holds is for all to read, whoever builds it
cd "$(dirname "$0")/../.."
python=${DEB_PYTHON:-/usr/bin/python3}
compression=${DEB_COMPRESSION:--Zzstd -z3}
program=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' edge_agent/__init__.py)
version=${DEB_VERSION:-$program}
root=build/deb
arch=$(dpkg --print-architecture)
package=out/edge-agent_${version}_${arch}.deb

case $version in
"$program" | "$program"[-+~]*) ;;
*) echo "DEB_VERSION=$version is no packaging of edge-agent $program: say ${program}-1, $program+site2, ... A new version of the" \
    "program is set in edge_agent/__init__.py." >&2; exit 2 ;;
esac

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "edge-agent needs Python 3.10 or newer; $python is $("$python" --version). This distribution is too old for it." >&2; exit 1; }
"$python" -c 'import venv, ensurepip' 2>/dev/null || { echo "Install Python's venv module: sudo apt-get install -y python3-venv" >&2; exit 1; }
rm -rf "$root" build/lib build/bdist.* && mkdir -p "$root/DEBIAN" out

# --- the virtual environment: its libraries are made once for one setup.cfg and build.sh, the project is added each time ---------------
export PYTHONDONTWRITEBYTECODE=1
pip=(-m pip --quiet --disable-pip-version-check)
libraries=build/deb-libraries
stamp=$({ cat setup.cfg systemd/debian/build.sh; "$python" --version; } | sha256sum)
if [ "$(cat "$libraries/.made-for" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$libraries"
    "$python" -m venv --system-site-packages "$libraries"
    "$libraries/bin/python" "${pip[@]}" install --ignore-installed --no-compile --no-warn-script-location '.[cpu,plc,postgresql]'
    "$libraries/bin/python" "${pip[@]}" uninstall --yes edge-agent
    "$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$libraries" -p /opt/edge-agent "$libraries/lib" >/dev/null || true
    echo "$stamp" >"$libraries/.made-for"
fi
env=$root/opt/edge-agent
mkdir -p "$root/opt" && cp -al "$libraries" "$env" && rm "$env/.made-for"
"$env/bin/python" "${pip[@]}" install --no-deps --no-compile --no-warn-script-location .
# Not OpenVINO's telemetry, which would tell its maker of every use; OpenVINO does without it.
"$env/bin/python" "${pip[@]}" uninstall --yes openvino-telemetry pip setuptools
find "$env/bin" -type f ! -name edge-agent -delete
sed -i "1s|^#!.*|#!/opt/edge-agent/bin/python -I|" "$env/bin/edge-agent"   # -I: nothing of the caller's environment or folder
sed -i '/^command = /d' "$env/pyvenv.cfg"
"$python" -m compileall -q --invalidation-mode unchecked-hash -s "$root" -p / "$env"/lib/python3*/site-packages/edge_agent >/dev/null

# --- everything else ---------------------------------------------------------------------------------------------------------------
put() { install -D -m "$1" "$2" "$root/$3"; }
mkdir -p "$root/usr/bin" && ln -s /opt/edge-agent/bin/edge-agent "$root/usr/bin/edge-agent"
for unit in systemd/*.service; do put 644 "$unit" "usr/lib/systemd/system/${unit##*/}"; done
put 755 systemd/alarm.sh usr/lib/edge-agent/alarm
put 644 systemd/edge-agent.sysusers usr/lib/sysusers.d/edge-agent.conf
put 644 systemd/edge-agent.tmpfiles usr/lib/tmpfiles.d/edge-agent.conf
put 644 systemd/60-edge-agent.rules usr/lib/udev/rules.d/60-edge-agent.rules
put 644 config/sysctl/60-edge-agent.conf usr/lib/sysctl.d/60-edge-agent.conf
put 644 config/station.yaml etc/edge-agent/station.yaml
put 644 config/station.yaml usr/share/edge-agent/station.yaml   # for postinst to know the safe example by
put 644 systemd/collector.env etc/edge-agent/collector.env
(cd config && find recipes -type f) | while read -r file; do put 644 "config/$file" "etc/edge-agent/$file"; done
find models -type f ! -name '*.pt' ! -name curves.png | while read -r file; do put 644 "$file" "usr/share/edge-agent/$file"; done
# As in the repository, so that a link or a remedy that says docs/gpu.md is right in both.
find config/examples config/prometheus config/sysctl systemd/examples docs LICENSE README.md ARCHITECTURE.md CHANGELOG.md -type f |
    while read -r file; do put 644 "$file" "usr/share/doc/edge-agent/$file"; done
ln -s ../../edge-agent/models "$root/usr/share/doc/edge-agent/models"
(cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do put 755 "systemd/debian/$script" "DEBIAN/$script"; done

# The package is for the Python it was built with, and for no older C library.
read -r minor next < <("$python" -c 'import sys; v = sys.version_info; print(f"{v[0]}.{v[1]} {v[0]}.{v[1] + 1}")')
libc=$(dpkg-query -W -f '${Version}' libc6 | sed 's/-.*//')
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$root" | cut -f1)/" \
    -e "s/@PYTHON@/$minor/" -e "s/@NEXT_PYTHON@/$next/" -e "s/@LIBC@/$libc/" systemd/debian/control.in >"$root/DEBIAN/control"
rm -f out/edge-agent_*_"$arch".deb   # older ones: `apt-get install ./out/edge-agent_*.deb` takes the one that is there
# shellcheck disable=SC2086  # two words
dpkg-deb --root-owner-group $compression --build "$root" "$package" >/dev/null
echo "$package"
