#!/bin/sh
# What happens when a unit has failed for good: one line of severity "alert" in the journal, then the site's own hook, if there is
# one. The hook gets the unit's name and systemd's result (exit-code, watchdog, start-limit-hit, ...) as its arguments.
set -u
case $1 in *.service) unit=$1 ;; *) unit=$1.service ;; esac
hook=/etc/edge-agent/alarm
# systemd 251 and newer hand over what the failed unit came to. An older one is asked, and knows nothing more where the unit was
# started again meanwhile; nor does any where the alarm is tried by hand. What failed never has the result "success".
result=${MONITOR_SERVICE_RESULT:-$(systemctl show --property=Result --value "$unit" 2>/dev/null)}
code=${MONITOR_EXIT_STATUS:-$(systemctl show --property=ExecMainStatus --value "$unit" 2>/dev/null)}
case $result in '' | success) result=unknown code=unknown ;; esac
text="$unit has failed and is not started again by itself: $result, status ${code:-unknown}."
[ "$code" = 78 ] && text="$text Its configuration will never work as it is: systemctl status $unit names the problem."
[ "$result" = unknown ] && text="$text Either it runs again, or this alarm was tried by hand."
printf '<1>%s\n' "$text" >&2
if [ -x "$hook" ]; then
    "$hook" "$unit" "$result" || printf '<3>%s\n' "the hook $hook ended with $?" >&2
elif [ -e "$hook" ]; then
    printf '<3>%s\n' "the hook $hook is not executable, and did not run: sudo chmod +x $hook" >&2
fi
