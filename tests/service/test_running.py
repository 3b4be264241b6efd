"""What an operations team signs for, on a real systemd: readiness, reload, watchdog, restart, alarm, full disk, drain."""

from __future__ import annotations

import os
import time

from box import wait_for
from plant import COLLECTOR, IMAGES, SETTINGS, STATE, UNIT, Plant, unbroken


def test_verdicts_flow_and_reach_the_collector_and_a_stop_under_load_drains(plant: Plant) -> None:
    plant.station.settings["cameras"][0]["rate_hz"] = 50
    plant.station.settings["lines"][0]["frames"] = 64
    plant.start_collector()
    plant.start()
    heard = plant.hear(100)
    wait_for(lambda: plant.listen(0.2) or "uplink.connected" in plant.journal(), "the collector answers")
    assert {verdict.outcome for verdict in heard} >= {"PASS", "NG"}
    assert "line Ready" in plant.status()
    assert "parts/s" in plant.status()
    plant.stop()
    assert plant.box.show(UNIT, "Result") == "success"
    stored = plant.stored()
    unbroken(stored)
    assert {key: verdict.outcome for key, verdict in stored.items()} == {key: v.outcome for key, v in plant.heard.items()}
    assert not any(verdict.reasons == ("interrupted",) for verdict in stored.values())


def test_the_journal_has_each_part_with_its_fields_or_counts_it(plant: Plant) -> None:
    plant.station.settings["cameras"][0]["rate_hz"] = 60
    plant.station.settings["log"] = {"parts_per_s": 30}
    plant.station.settings["lines"][0]["frames"] = 64
    plant.start()
    plant.hear(200)
    plant.stop()
    told = plant.entries("EVENT=part.judged")
    left_out = plant.entries("EVENT=part.left_out")
    unbroken(plant.heard)
    assert len(told) + sum(int(entry["COUNT"]) for entry in left_out) == len(plant.heard)
    assert left_out
    assert {int(entry["SEQ"]): entry["OUTCOME"] for entry in told} == {
        verdict.seq: verdict.outcome for verdict in plant.heard.values() if str(verdict.seq) in {entry["SEQ"] for entry in told}
    }
    bad = [verdict for verdict in plant.heard.values() if verdict.outcome == "NG"]
    found = plant.entries("OUTCOME=NG")
    assert {entry["PART_ID"] for entry in found} == {verdict.part_id for verdict in bad}, "what is left out is PASS"
    assert {tuple(entry["REASON"]) for entry in found} == {("blob_count", "peak_score")}
    assert {entry["PRIORITY"] for entry in found} == {"6"}
    assert "uppressed" not in plant.box.run("journalctl", "--no-pager", "--unit=systemd-journald").stdout


def test_threads_get_their_real_time_priority_where_the_unit_may_give_it(plant: Plant) -> None:
    """A box without CAP_SYS_RESOURCE cannot raise LimitRTPRIO: there the wish is refused, and granted by the capability."""
    plant.station.settings["threads"] = {"grab": {"priority": 20}, "publisher": {"priority": 30}}
    assert plant.box.show(UNIT, "LimitRTPRIO") == "50"
    assert plant.box.show(UNIT, "RestrictRealtime") == "no"
    plant.start()
    plant.hear(20)
    limits = plant.box.run("cat", f"/proc/{plant.main_pid()}/limits").stdout
    limit = next(line.split()[3] for line in limits.splitlines() if line.startswith("Max realtime priority"))
    if limit != "50":
        assert plant.real_time() == set()
        assert {entry["SCHEDULING_PRIORITY"] for entry in plant.entries("EVENT=station.wish_refused")} == {"20", "30"}
        plant.drop_in("[Service]\nPrivateUsers=no\nCapabilityBoundingSet=CAP_SYS_NICE\nAmbientCapabilities=CAP_SYS_NICE\n")
        plant.box.run("systemctl", "restart", UNIT)
        plant.hear(20)
    assert plant.real_time() == {20, 30}


def test_a_reload_swaps_a_good_recipe_and_refuses_a_bad_one_without_losing_a_part(plant: Plant) -> None:
    plant.start_collector()
    plant.start()
    before = plant.hear(20)[-1].recipe_hash
    epoch, pid = max(plant.heard)[0], plant.main_pid()

    for most_px, words in ((50, ("systemctl", "reload", UNIT)), (60, ("kill", "-HUP", pid))):
        plant.write_recipe(rules=[{"rule": "blob_count", "max": 0}, {"rule": "total_area", "max_px": most_px}])
        plant.box.run(*words)
        wait_for(lambda before=before: plant.hear(5)[-1].recipe_hash != before, f"parts are judged by the new recipe: {words}")
        before = good = plant.hear(5)[-1].recipe_hash

    for why, changes in (
        ("rules.0.max", {"rules": [{"rule": "blob_count", "max": -1}]}),
        ("golden picture", {"rules": [{"rule": "blob_count", "max": 99}]}),  # it would pass what is known to be bad
    ):
        plant.write_recipe(**changes)
        assert plant.box.run("systemctl", "reload", UNIT, check=False).returncode == 1
        wait_for(lambda: plant.listen(0.2) or "reload refused, the recipes before stay: " in plant.status(), "it is said")
        wait_for(lambda why=why: plant.listen(0.2) or why in plant.status(), f"the status names {why}")
        assert plant.hear(10)[-1].recipe_hash == good
    assert plant.journal().count("station.reload_refused") == 2
    assert plant.box.show(UNIT, "ActiveState") == "active"
    assert (plant.main_pid(), plant.restarts()) == (pid, 0)
    plant.stop()
    unbroken(plant.heard)
    stored = plant.stored()
    unbroken(stored)
    assert {key[0] for key in stored} == {epoch}
    assert stored.keys() == plant.heard.keys()


def test_kill_9_is_followed_by_a_restart_that_loses_and_contradicts_nothing(plant: Plant) -> None:
    plant.start_collector()
    plant.start()
    plant.hear(40)
    pid = plant.main_pid()
    plant.box.run("kill", "-9", pid)
    wait_for(lambda: plant.listen(0.2) or plant.main_pid() not in (0, pid), "systemd starts it again")
    plant.hear(40)
    assert plant.restarts() == 1
    plant.stop()
    stored = plant.stored()
    unbroken(stored)
    assert len({epoch for epoch, _ in stored}) == 2
    assert {key: stored[key].outcome for key in plant.heard} == {key: verdict.outcome for key, verdict in plant.heard.items()}


def test_a_stage_that_stands_still_is_ended_by_the_watchdog_with_its_traceback(plant: Plant) -> None:
    """The picture's file becomes a FIFO that nobody writes: the grab thread reads it for ever, as from a dead network drive."""
    plant.watch_closely()
    plant.start()
    plant.hear(20)
    pid = plant.main_pid()
    file = plant.box.path(f"{IMAGES}/0002.png")
    picture = file.read_bytes()
    fifo = plant.box.path(f"{IMAGES}/fifo")
    os.mkfifo(fifo, 0o644)
    fifo.rename(file)
    wait_for(lambda: plant.main_pid() != pid, "the watchdog ends it")
    journal = plant.journal()
    assert [each["THREAD"] for each in plant.entries("EVENT=station.stalled")] == ["grab-line"], journal
    assert "Fatal Python error: Aborted" in journal
    assert "in read_gray" in journal  # the thread's traceback says where
    assert "watchdog" in plant.box.run("journalctl", "--no-pager", f"--unit={UNIT}").stdout.lower()
    repaired = file.with_name("repaired")
    repaired.write_bytes(picture)
    repaired.chmod(0o644)
    repaired.rename(file)
    wait_for(lambda: "line Ready" in plant.status(), "it runs again", 120)
    plant.hear(5)


def test_a_line_without_triggers_and_a_collector_without_stations_are_no_stall(plant: Plant) -> None:
    plant.watch_closely()
    plant.watch_closely(COLLECTOR)
    plant.station.settings["uplink"] = {}
    plant.start_collector()
    plant.station.settings["cameras"][0].update(trigger="software", rate_hz=0)
    plant.start()
    pid, collector = plant.main_pid(), plant.main_pid(COLLECTOR)
    plant.listen(10)  # two and a half times what the watchdog waits
    assert (plant.main_pid(), plant.restarts()) == (pid, 0)
    assert "line Ready" in plant.status()
    assert (plant.main_pid(COLLECTOR), plant.restarts(COLLECTOR)) == (collector, 0)
    plant.box.run("kill", "-STOP", collector)
    wait_for(lambda: plant.restarts(COLLECTOR) == 1 and plant.main_pid(COLLECTOR) != collector, "the watchdog ends the collector")
    assert "Fatal Python error: Aborted" in plant.journal(COLLECTOR)
    assert "in serve_batch" in plant.journal(COLLECTOR) or "in run" in plant.journal(COLLECTOR)


def test_a_collector_whose_database_is_away_is_up_and_says_what_it_waits_for(plant: Plant) -> None:
    words = (
        "--bind tcp://127.0.0.1:5558 --store postgresql+psycopg://nobody@127.0.0.1:9/x --crops /var/lib/edge-agent/collector/crops"
    )
    plant.drop_in(f"[Service]\nExecStart=\nExecStart=/opt/edge-agent/bin/edge-agent collect {words}\n", COLLECTOR)
    plant.start_collector()
    assert "waiting for the store: " in plant.box.show(COLLECTOR, "StatusText")
    plant.box.run("systemctl", "stop", COLLECTOR)
    assert plant.box.show(COLLECTOR, "Result") == "success"


def test_a_wrong_word_on_the_collectors_command_line_is_not_tried_again(plant: Plant) -> None:
    plant.drop_in("[Service]\nExecStart=\nExecStart=/opt/edge-agent/bin/edge-agent collect --stoer here\n", COLLECTOR)
    plant.box.run("systemctl", "start", COLLECTOR, check=False)
    wait_for(lambda: plant.box.show(COLLECTOR, "ActiveState") == "failed", "it fails")
    assert (plant.box.show(COLLECTOR, "ExecMainStatus"), plant.restarts(COLLECTOR)) == ("2", 0)


def test_a_bad_configuration_is_not_tried_again_and_its_reason_is_in_the_status(plant: Plant) -> None:
    heard = plant.write_alarm()
    plant.station.settings["lines"][0]["recipe"] = "absent"
    plant.start(check=False)
    wait_for(lambda: plant.box.show(UNIT, "ActiveState") == "failed", "it fails")
    told = plant.box.run("systemctl", "status", "--no-pager", UNIT, check=False).stdout
    assert "absent.yaml" in told
    assert "absent.yaml" in plant.box.journal(UNIT, "--priority=warning")
    assert plant.box.show(UNIT, "ExecMainStatus") == "78"
    assert plant.restarts() == 0
    wait_for(heard.exists, "the site's alarm runs")
    assert heard.read_text() == f"{UNIT} exit-code\n"
    alarm = f"edge-agent-alarm@{UNIT}.service"
    assert "will never work" in plant.box.journal(alarm, "--priority=alert")


def test_what_fails_again_and_again_stays_down_and_the_alarm_says_so(plant: Plant) -> None:
    heard = plant.write_alarm()
    plant.drop_in("[Service]\nExecStart=\nExecStart=/bin/false\nRestartSec=50ms\n")
    plant.box.run("systemctl", "start", "--no-block", UNIT)
    wait_for(heard.exists, "the site's alarm runs")
    assert heard.read_text() == f"{UNIT} exit-code\n"
    assert plant.box.show(UNIT, "ActiveState") == "failed"
    assert plant.restarts() == 20, "twenty starts, and the one that was refused"
    assert "Start request repeated too quickly" in plant.journal()


def test_the_alarm_knows_what_failed_also_where_the_unit_runs_again(plant: Plant) -> None:
    """systemd tells it from 251 on; of an older one nothing more can be learnt by then."""
    result, code = ("exit-code", "78") if plant.box.systemd_version() >= 251 else ("unknown", "unknown")
    heard = plant.write_alarm()
    line = plant.station.settings["lines"][0]
    recipe, line["recipe"] = line["recipe"], "absent"
    slowly = "until systemctl --quiet is-active edge-agent; do sleep 0.1; done; exec /usr/lib/edge-agent/alarm %i"
    plant.drop_in(f"[Service]\nExecStart=\nExecStart=/bin/sh -c '{slowly}'\n", "edge-agent-alarm@.service")
    plant.start(check=False)
    wait_for(lambda: plant.box.show(UNIT, "ActiveState") == "failed", "it fails")
    line["recipe"] = recipe
    plant.start()
    wait_for(heard.exists, "the site's alarm runs")
    assert heard.read_text() == f"{UNIT} {result}\n"
    assert f"{result}, status {code}" in plant.box.journal(f"edge-agent-alarm@{UNIT}.service", "--priority=alert")
    heard.unlink()
    plant.box.run("systemctl", "start", "edge-agent-alarm@edge-agent.service")
    assert heard.read_text() == f"{UNIT} unknown\n", "tried by hand"


def test_a_wrong_model_is_not_started_with(plant: Plant) -> None:
    plant.station.recipe["golden"] = {"good": ["golden/bad.png"], "bad": ["golden/bad.png"]}
    plant.start(check=False)
    wait_for(lambda: plant.box.show(UNIT, "ActiveState") == "failed", "it fails")
    assert plant.box.show(UNIT, "ExecMainStatus") == "78"
    assert "must be PASS" in plant.journal()


def test_a_full_disk_stops_no_verdict_and_what_is_lost_is_declared(plant: Plant) -> None:
    """96 MB, of which the journal has 64: every picture is with the collector at last, or declared lost."""
    plant.station.settings["uplink"] = {"outbox_cap_mb": 1024}
    plant.station.settings["lines"][0]["frames"] = 64
    plant.station.recipe["evidence"] = {"whole_frame": "always"}
    plant.small_disk()
    plant.start()
    plant.hear(20)
    plant.box.run("sh", "-c", f"dd if=/dev/zero of={STATE}/filler bs=64k 2>/dev/null || true")
    wait_for(lambda: plant.listen(0.2) or plant.entries("EVENT=outbox.failed"), "the disk is full")
    full = plant.hear(60)
    assert {verdict.outcome for verdict in full} >= {"PASS", "NG"}
    plant.box.run("rm", f"{STATE}/filler")
    wait_for(lambda: plant.listen(0.2) or plant.entries("EVENT=outbox.recovered"), "with room again everything is stored")
    assert len(plant.entries("EVENT=outbox.failed")) == 1
    assert plant.restarts() == 0
    plant.start_collector()
    plant.station.settings["uplink"] = {"collector": "tcp://127.0.0.1:5558"}
    plant.write()
    plant.box.run("systemctl", "restart", "--no-block", UNIT)
    wait_for(lambda: plant.listen(0.2) or len({epoch for epoch, _ in plant.heard}) == 2, "it runs again")
    wait_for(lambda: plant.listen(0.2) or "uplink.connected" in plant.journal(), "the collector answers")
    plant.hear(40)
    plant.stop()
    unbroken(plant.heard)
    stored = plant.stored()
    unbroken(stored)
    judged = [verdict for verdict in plant.heard.values() if verdict.outcome != "FAULT"]
    faults = {verdict.reasons for verdict in plant.heard.values() if verdict.outcome == "FAULT"}
    assert faults <= {("not_ready",), ("interrupted",), ("overrun",)}, (
        "without a picture: at a stop, or where the machine is starved"
    )
    kept, lost = plant.pictures()
    assert lost
    assert kept + lost == sum(1 + len(verdict.blobs) for verdict in judged)  # each frame, and each blob


def test_kill_9_on_a_full_disk_is_followed_by_one_start_that_judges(plant: Plant) -> None:
    plant.small_disk()
    plant.start()
    plant.hear(20)
    plant.fill_disk()
    plant.hear(20)
    plant.box.run("kill", "-9", str(plant.main_pid()))
    wait_for(lambda: plant.listen(0.2) or len({epoch for epoch, _ in plant.heard}) == 2, "it judges again")
    plant.hear(20)
    plant.box.run("rm", f"{STATE}/filler", f"{STATE}/rest")
    wait_for(lambda: plant.listen(0.2) or plant.entries("EVENT=outbox.recovered"), "with room again everything is stored")
    assert plant.restarts() == 1
    plant.stop()
    unbroken(plant.heard)


def test_a_stop_has_all_of_its_drain_beyond_the_units_limit(plant: Plant) -> None:
    """A disk that takes nothing is waited for until the drain is over."""
    plant.drop_in("[Service]\nTimeoutStopSec=2\n")
    plant.station.settings["drain_s"] = 8
    plant.small_disk()
    plant.start()
    plant.hear(20)
    plant.fill_disk()
    plant.stop()
    assert plant.box.show(UNIT, "Result") == "success"
    assert plant.entries("EVENT=station.stopped")


def test_without_network_camera_or_collector_it_is_plainly_not_ready_and_stays_up(plant: Plant) -> None:
    plant.watch_closely()
    plant.station.settings["cameras"] = [{"name": "camera", "kind": "v4l2", "serial": "absent-77"}]
    plant.station.settings["uplink"] = {"collector": "tcp://10.255.255.1:5558"}
    plant.station.settings["uplink"]["allow_plaintext"] = True
    plant.box.run("ip", "link", "set", "lo", "down")
    try:
        plant.start()
        pid = plant.main_pid()
        wait_for(lambda: "line Error" in plant.status(), "the status says so")
        until = time.monotonic() + 10
        while time.monotonic() < until:
            plant.listen(0.5)
            assert (plant.main_pid(), plant.restarts()) == (pid, 0)
        assert "absent-77" in plant.status()
        assert plant.ask("status").status["lines"]["line"]["state"] == "Error"
    finally:
        plant.box.run("ip", "link", "set", "lo", "up")


def test_a_network_that_comes_after_the_station_is_listened_on(plant: Plant) -> None:
    address = "tcp://10.99.0.1:5556"
    plant.station.settings["plc"].update(verdicts=address, control="tcp://10.99.0.1:5557", allow_plaintext=True)
    plant.write()
    plant.box.run("systemctl", "start", UNIT)
    assert len(plant.entries("EVENT=network.address_awaited")) == 2
    plant.box.run("ip", "address", "add", "10.99.0.1/32", "dev", "lo")
    try:
        heard = plant.box.run("edge-agent", "watch", "--json", "--connect", address, "--count", 1, "--timeout", 60).stdout
        assert '"outcome"' in heard
        wait_for(lambda: len(plant.entries("EVENT=network.address_here")) == 2, "the log says that it came")
        assert plant.restarts() == 0
    finally:
        plant.box.run("ip", "address", "del", "10.99.0.1/32", "dev", "lo")


def test_a_station_with_keys_is_for_those_who_have_one_too(plant: Plant) -> None:
    keys = "/etc/edge-agent/keys"
    plant.station.settings["plc"]["curve"] = {"secret_key": f"{keys}/hall.key_secret", "clients": f"{keys}/clients"}
    plant.write()
    plant.box.run("edge-agent", "keygen", "hall", "--out", keys)
    assert plant.box.run("stat", "-c", "%U %G %a", f"{keys}/hall.key_secret").stdout == "root edge-agent 640\n"
    told = plant.box.run("edge-agent", "check", "--config", SETTINGS, check=False)
    assert (told.returncode, "curve.clients: names" in told.stdout) == (78, True)
    plant.box.run("edge-agent", "keygen", "panel", "--out", f"{keys}/clients")
    assert plant.box.run("edge-agent", "check", "--config", SETTINGS).returncode == 0
    plant.box.run("systemctl", "start", UNIT)
    plant.box.run("systemctl", "reload", UNIT)
    panel = ("--secret-key", f"{keys}/clients/panel.key_secret", "--server-key", f"{keys}/hall.key")
    assert '"station": "test"' in plant.box.run("edge-agent", "control", "--connect", f"ipc://{STATE}/c", *panel, "status").stdout
    refused = plant.box.run("edge-agent", "control", "--connect", f"ipc://{STATE}/c", "status", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    plant.box.run("systemctl", "stop", UNIT)
    plant.box.run("sh", "-c", f"rm -rf {keys}/*")


def test_the_modbus_server_comes_and_goes_with_the_station(plant: Plant) -> None:
    unit = "edge-agent-modbus@line.service"
    example = "/usr/share/doc/edge-agent/systemd/examples/edge-agent-modbus@.service"
    plant.box.run("install", "-m", "644", example, "/etc/systemd/system/")
    plant.box.path("/etc/edge-agent/modbus-line.env").write_text("ARGS=--listen 127.0.0.1:502 --recipes 1=part\n")
    plant.box.run("systemctl", "daemon-reload")
    try:
        plant.start()
        plant.box.run("systemctl", "enable", "--now", unit)
        assert "listening on 127.0.0.1:502" in plant.box.show(unit, "StatusText")
        plant.box.run("systemctl", "restart", UNIT)
        wait_for(lambda: plant.box.show(unit, "ActiveState") == "active", "it is started again with the station")
        plant.box.run("systemctl", "stop", UNIT)
        assert (plant.box.show(unit, "ActiveState"), plant.box.show(unit, "Result")) == ("inactive", "success")
    finally:
        plant.box.run("systemctl", "disable", "--now", unit, check=False)
        plant.box.run("rm", "-f", "/etc/systemd/system/edge-agent-modbus@.service", "/etc/edge-agent/modbus-line.env")
