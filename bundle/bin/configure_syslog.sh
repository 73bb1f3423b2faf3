#!/bin/sh
# configure_syslog.sh: tell the syslog daemon to forward to an agent
exec /opt/microsoft/omsagent/bin/omsagent syslog "$@"
