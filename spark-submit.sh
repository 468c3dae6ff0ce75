#!/usr/bin/env bash
# spark-submit with this project's settings: `spark-flow submit` of the .venv beside this file. Every option of
# spark-submit and every argument of the job passes through untouched; what you give takes precedence.
#
#   ./spark-submit.sh [spark-submit's options] jobs/daily_flights.py --config conf/daily_flights.yaml key=2013-01-02
#   MASTER=local[2] ./spark-submit.sh jobs/...      another master than local[*]
#   SPARK_HOME=/opt/spark ./spark-submit.sh ...     a cluster's own Spark instead of the one in .venv
#   DELTA=no ./spark-submit.sh ...                  without Delta's jars, for jobs that write no Delta table by Spark
#   SPARK_FLOW_ARCHIVE=no ./spark-submit.sh ...     without the class-data archive that makes the JVM start sooner
#   LINEAGE=yes ./spark-submit.sh ...               with OpenLineage's listener, for jobs with lineage.spark_events=true
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$here/.venv/bin/python
[[ -x $python ]] || { echo "spark-submit.sh: there is no $here/.venv yet: run 'make venv' in that folder." >&2; exit 2; }
exec "$python" -I -m spark_flow.cli.submit "$@"
