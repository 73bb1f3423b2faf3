#!/bin/sh
# omsadmin.sh: the workspace administration tool
exec /opt/microsoft/omsagent/bin/omsagent admin "$@"
