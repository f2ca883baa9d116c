#!/usr/bin/env bash
# A folder of shots as a Slurm job array: each task does its part of the shots.
#
#   sbatch --array=1-8 examples/slurm_array.sh /shared/shots /shared/layers [options of omnimatte batch]
#
# All tasks share the output folder; each writes the records of its own shots, and the page
# batch.html shows them all. Submit it again after a failure: finished shots are skipped.
#SBATCH --job-name=omnimatte
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --output=omnimatte-%A_%a.log
# For a GPU a task, add:  #SBATCH --gres=gpu:1
set -euo pipefail
shots=$1 out=$2
shift 2
: "${SLURM_ARRAY_TASK_ID:?submit this with sbatch --array=1-N}"
first=${SLURM_ARRAY_TASK_MIN:-1}
part=$(((SLURM_ARRAY_TASK_ID - first) / ${SLURM_ARRAY_TASK_STEP:-1} + 1))
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
read -r -a omnimatte <<< "${OMNIMATTE:-omnimatte}"
# exec: the signal that Slurm sends before the end reaches the tool, which cleans up.
exec "${omnimatte[@]}" batch "$shots" -o "$out" --shard "$part/${SLURM_ARRAY_TASK_COUNT:?}" "$@"
