#!/bin/sh
# What happens when a unit has failed for good: one line of severity "alert" in the journal, then the site's own hook, if there is
# one. The hook gets the unit's name and systemd's result (exit-code, watchdog, start-limit-hit, ...) as its arguments.
set -u
unit=$1
hook=/etc/edge-agent/alarm
result=$(systemctl show --property=Result --value "$unit" 2>/dev/null)
code=$(systemctl show --property=ExecMainStatus --value "$unit" 2>/dev/null)
text="$unit has failed and stays down: ${result:-unknown}, exit code ${code:-unknown}."
[ "$code" = 78 ] && text="$text Its configuration will never work as it is: systemctl status $unit names the problem."
printf '<1>%s\n' "$text" >&2
[ -x "$hook" ] || exit 0
"$hook" "$unit" "${result:-unknown}" || printf '<3>%s\n' "the hook $hook ended with $?" >&2
