#!/usr/bin/env bash
# spark-submit with this project's settings. Every option of spark-submit and every argument of the job
# passes through untouched, and what you give wins over what is given here:
#
#   ./spark-submit.sh [spark-submit's options] jobs/daily_flights.py --config conf/daily_flights.yaml key=2013-01-02
#   MASTER=local[2] ./spark-submit.sh jobs/...      another master than local[*]
#   SPARK_HOME=/opt/spark ./spark-submit.sh ...     a cluster's own Spark instead of the one in .venv
#   DELTA=no ./spark-submit.sh ...                  without Delta's jars, for jobs that write no Delta table by Spark
#   SPARK_FLOW_ARCHIVE=no ./spark-submit.sh ...     without the class-data archive that makes the JVM start sooner
#   LINEAGE=yes ./spark-submit.sh ...               with OpenLineage's listener, for jobs with lineage.spark_events=true
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
resources=$here/spark_flow/spark/resources
delta_wanted=${DELTA:-yes} lineage_wanted=${LINEAGE:-no}
listener=io.openlineage:openlineage-spark_2.13:1.53.0
opens=--add-opens=java.base/java.security=ALL-UNNAMED # what the listener reaches into
quiet='-Xshare:auto -Xlog:cds=off -Xlog:cds+dynamic=off' # where the class-data archive is of another Java or other jars
line=4.2 # of Spark: what the Delta library in spark-defaults.conf is built for

die() { echo "spark-submit.sh: $1" >&2; exit 2; }

(($#)) || die "what to run? ./spark-submit.sh [spark-submit's options] jobs/JOB.py [its arguments]"

# Java: spark-submit without it, or with an old one, fails with a stack trace.
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
version=$("$java" -version 2>&1) || die "Java does not run ($java): install Java 17 or 21, or set JAVA_HOME to it."
[[ $version =~ version\ \"(1\.)?([0-9]+) ]] && ((BASH_REMATCH[2] >= 17)) ||
  die "Java is too old: found ${version%%$'\n'*}; expected 17 or 21. Set JAVA_HOME to one."

# Spark's own options, up to the job. Kept as they are, but --jars takes one list, so yours is joined with ours.
options=() jars='' properties='' master=${MASTER:-} deploy=client ivy_settings=''
conf() { # what a key=value of yours changes for us
  case $1 in
    spark.jars=*) jars=${1#*=} ;;
    spark.master=*) [[ $master ]] || master=${1#*=} ;;
    spark.submit.deployMode=*) deploy=${1#*=} ;;
    spark.jars.ivySettings=*) ivy_settings=${1#*=} ;;
  esac
}
while (($#)); do
  case $1 in
    --jars=* | --properties-file=* | --master=* | --deploy-mode=* | --conf=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    -v | --verbose | -h | --help | --version | --usage-error | --supervise | --load-spark-defaults) options+=("$1"); shift; continue ;;
    --*=*) options+=("$1"); shift; continue ;;
    -*) (($# > 1)) || break ;;
    *) break ;;
  esac
  case $1 in
    --jars) jars=$2; shift 2; continue ;;
    --properties-file) properties=$2 ;;
    --master) master=$2 ;;
    --deploy-mode) deploy=$2 ;;
    --conf | -c) conf "$2" ;;
  esac
  options+=("$1" "$2"); shift 2
done
[[ ! $properties || -r $properties ]] || die "cannot read --properties-file $properties"

of_yours() { # the value of a key in your properties file
  [[ $properties ]] && awk -v key="$1" '
    { sub(/^[ \t]+/, ""); name = $0; sub(/[ \t=:].*/, "", name) }
    name == key { sub(/^[^ \t=:]+[ \t]*[=:]?[ \t]*/, ""); print; found = 1 }
    END { exit !found }' "$properties"
}

packages=''
ours=() # before yours: spark-submit takes the last --conf of a key
add() { of_yours "${1%%=*}" > /dev/null || ours+=(--conf "$1"); }
add_file() {
  local key value
  while read -r key value; do
    case $key in
      '' | '#'*) ;;
      spark.sql.extensions | spark.sql.catalog.spark_catalog) [[ $delta_wanted == no ]] || add "$key=$value" ;;
      spark.sql.execution.pythonUDF.arrow.enabled) [[ $core != *-4.2.0.jar ]] || add "$key=$value" ;;
      spark.jars.packages) [[ $own || $delta_wanted == no ]] || packages=${packages:+$packages,}$value ;;
      *) add "$key=$value" ;;
    esac
  done < "$1"
}

if [[ ${SPARK_HOME:-} ]]; then
  own='' # a cluster's gateway: its Spark, its spark-defaults.conf, its logging
  [[ -x $SPARK_HOME/bin/spark-submit ]] || die "SPARK_HOME=$SPARK_HOME holds no bin/spark-submit; unset it to use .venv."
  core=$(compgen -G "$SPARK_HOME/jars/spark-core_*.jar" | head -n 1) || true
  [[ ! $core || $core == */spark-core_2.13-$line.* ]] ||
    die "SPARK_HOME=$SPARK_HOME is ${core##*/}; expected Spark $line. Unset SPARK_HOME to use the Spark in .venv."
  [[ $ivy_settings ]] || add "spark.jars.ivySettings=$resources/ivysettings.xml"
  [[ $lineage_wanted != yes ]] || packages=$listener
  if [[ -x $here/.venv/bin/python ]]; then # executors need nothing of ours; the driver needs spark_flow
    export PYSPARK_DRIVER_PYTHON=${PYSPARK_DRIVER_PYTHON:-$here/.venv/bin/python}
  fi
else
  own=1
  python=$here/.venv/bin/python
  [[ -x $python ]] || die "there is no $here/.venv yet: run 'make venv' in that folder."
  SPARK_HOME=$(compgen -G "$here/.venv/lib/python3*/site-packages/pyspark" | head -n 1) || die "no PySpark in $here/.venv: run 'make venv'."
  export SPARK_HOME PYSPARK_PYTHON=$python PYSPARK_DRIVER_PYTHON=$python
  core=$(compgen -G "$SPARK_HOME/jars/spark-core_*.jar" | head -n 1) || true

  # Delta's jars, resolved before: asking Python each time would cost its start.
  delta=''
  coordinate=$(awk '$1 == "spark.jars.packages" { print $2 }' "$resources/spark-defaults.conf")
  cache=${SPARK_FLOW_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}}/spark_flow/delta-${coordinate##*:}-spark-$line
  if [[ $delta_wanted == no ]]; then
    :
  elif compgen -G "$cache/delta-spark_*.jar" > /dev/null; then
    delta=$(printf '%s,' "$cache"/*.jar) && delta=${delta%,}
  else
    delta=$("$python" -m spark_flow.spark.session jars)
  fi
  [[ $jars ]] || jars=$(of_yours spark.jars) || true
  [[ ! $delta ]] || jars=${jars:+$jars,}$delta
  if [[ $lineage_wanted == yes ]]; then
    jar=$(compgen -G "${cache%/*}/openlineage-spark-${listener##*:}/openlineage-spark_*.jar" | head -n 1) ||
      jar=$("$python" -m spark_flow.spark.session jars lineage)
    jars=${jars:+$jars,}$jar
  fi
  : "${master:=$(of_yours spark.master || echo 'local[*]')}"

  # The class-data archive of spark_flow/spark/archive.py: the JVM starts sooner with it. It is made where the jars were fetched.
  build=${version##*$'\n'}
  archive=$cache/archives/${build//[^A-Za-z0-9.]/-}$SPARK_HOME/classes.jsa
  whole() { [[ $(wc -c < "$archive" | tr -d ' ') == "$(cat "${archive%.jsa}.size" 2> /dev/null)" ]]; }
  current() { [[ -e $archive && ! $(find "$SPARK_HOME/jars" -newer "$archive" | head -n 1) ]] && { [[ ! -s $archive ]] || whole; }; }
  if [[ $master != local* || ${SPARK_FLOW_ARCHIVE:-} == no ]]; then
    archive=''
  elif ! current && [[ -w $cache/archives ]]; then
    "$python" -c 'from spark_flow.spark.session import make_archive; make_archive()' || true
  fi
  [[ ! $archive ]] || { current && whole; } || archive=''
fi
[[ ! $jars ]] || ours+=(--jars "$jars")
[[ ! $master ]] || ours+=(--master "$master")

add_file "$resources/spark-defaults.conf"
[[ ! $packages ]] || add "spark.jars.packages=$packages"
if [[ $lineage_wanted == yes && $deploy == client ]]; then
  SPARK_SUBMIT_OPTS="$opens ${SPARK_SUBMIT_OPTS:-}"
elif [[ $lineage_wanted == yes ]]; then
  add "spark.driver.extraJavaOptions=$opens"
fi
if [[ $deploy == client ]]; then # the driver sees this machine's files
  add "spark.scheduler.allocation.file=file://$resources/fairscheduler.xml"
fi
if [[ $own || ($deploy == client && ! -e ${SPARK_CONF_DIR:-$SPARK_HOME/conf}/log4j2.properties) ]]; then
  SPARK_SUBMIT_OPTS="\"-Dlog4j2.configurationFile=file://$resources/log4j2.properties\" ${SPARK_SUBMIT_OPTS:-}"
fi
if [[ $master == local* ]]; then
  add_file "$resources/spark-local.conf"
  export SPARK_LOCAL_IP=${SPARK_LOCAL_IP:-127.0.0.1}
  [[ ! ${archive:-} ]] || SPARK_SUBMIT_OPTS="\"-XX:SharedArchiveFile=$archive\" $quiet ${SPARK_SUBMIT_OPTS:-}"
fi
export SPARK_SUBMIT_OPTS=${SPARK_SUBMIT_OPTS:-}

for word in "$@"; do # of the job: what log4j2.properties looks up
  [[ $word != --debug ]] || export SPARK_FLOW_LOGS=info SPARK_FLOW_ABORTS=NEUTRAL
done

# Ctrl-C reaches the JVM and its child, the job. If the JVM ended by it, the job's output would end as well: so it is
# left to the job, which records the interrupt and ends both. A JVM and a Python keep a signal ignored that they find so.
if [[ $deploy == client && ${1:-} == *.py && ! $(trap -p INT) ]] && grep -qs spark_flow "$1"; then
  trap '' INT
  export SPARK_FLOW_SIGINT=job
fi

exec "$SPARK_HOME/bin/spark-submit" "${ours[@]}" "${options[@]}" "$@"
