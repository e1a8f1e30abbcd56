#!/bin/sh
# Restarts what an alert is about, by hand as it were, and reports.
#
# What the alert says comes in variables, always in double quotes, never as a part of a command's text.
set -eu
report=output/report.md

refuse() {
    echo "not restarted: $1" | tee -a "$report" >&2
    exit 2
}

# An alert is data from somewhere else: only what can be restarted, and only what can be a name.
case "$HALE_KIND" in
Workload | Replica) ;;
*) refuse "this runbook knows workloads and replicas only" ;;
esac
case "$HALE_NAME" in
'' | -* | *[!a-z0-9-]*) refuse "the alert's resource has no name of a workload or a replica" ;;
esac

echo "# Restart of $HALE_NAME ($HALE_FAULT_TYPE, cluster $HALE_CLUSTER)" > "$report"
# Waits until each replica is ready again, and fails if it never is.
if hale restart -- "$HALE_NAME" >> "$report" 2>&1; then
    echo "Restarted, and ready again." >> "$report"
else
    status=$?
    echo "hale restart failed with exit status $status." >> "$report"
    exit "$status"
fi
