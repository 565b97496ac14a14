//! Scripts for schedulers that others run: a study in parts, over a folder that all machines share.

use super::Study;
use std::path::Path;

/// A script for Slurm's `sbatch`: an array of `parts` jobs, each of which does one part. A part that is cut off at its time limit
/// or whose node fails goes on where it was when the script is submitted again.
pub fn slurm(file: &Path, study: &Study, parts: u16) -> String {
    let (file, folder) = (quoted(file), quoted(&study.folder));
    format!(
        "#!/bin/bash\n\
         #SBATCH --job-name=roentgen-sweep\n\
         #SBATCH --array=1-{parts}\n\
         #SBATCH --cpus-per-task=4\n\
         #SBATCH --mem=16G\n\
         #SBATCH --time=24:00:00\n\
         # A part on a GPU: #SBATCH --gpus=1\n\
         #SBATCH --output=sweep-%A-%a.log\n\
         #SBATCH --requeue\n\
         # A minute before the time is up the program is asked to save and end.\n\
         #SBATCH --signal=B:INT@60\n\
         \n\
         # Submit in a folder that all nodes share. When all parts are done:\n\
         #   roentgen sweep {file} --out {folder} --report\n\
         exec roentgen sweep {file} --out {folder} \\\n\
         \x20   --shard \"$SLURM_ARRAY_TASK_ID/{parts}\" --threads \"$SLURM_CPUS_PER_TASK\"\n"
    )
}

/// A manifest of a Kubernetes indexed job of `parts` pods, each of which does one part. Image and volume are to be filled in.
pub fn kubernetes(file: &Path, study: &Study, parts: u16) -> String {
    let command = format!(
        "exec roentgen sweep {} --out {} --shard \"$((JOB_COMPLETION_INDEX + 1))/{parts}\"",
        quoted(file),
        quoted(&study.folder)
    );
    let command = serde_json::to_string(&command).expect("a text is plain data");
    format!(
        "apiVersion: batch/v1\n\
         kind: Job\n\
         metadata:\n\
         \x20 name: roentgen-sweep\n\
         spec:\n\
         \x20 completionMode: Indexed\n\
         \x20 completions: {parts}\n\
         \x20 parallelism: {parts}\n\
         \x20 # A pod that is evicted is started again and goes on where it was.\n\
         \x20 backoffLimitPerIndex: 3\n\
         \x20 template:\n\
         \x20   spec:\n\
         \x20     restartPolicy: Never\n\
         \x20     terminationGracePeriodSeconds: 60\n\
         \x20     containers:\n\
         \x20       - name: sweep\n\
         \x20         image: YOUR-REGISTRY/roentgen:latest\n\
         \x20         workingDir: /study\n\
         \x20         command: [\"/bin/sh\", \"-c\", {command}]\n\
         \x20         resources:\n\
         \x20           requests: {{ cpu: \"4\", memory: 16Gi }}\n\
         \x20           # On GPUs: limits: {{ nvidia.com/gpu: 1 }}\n\
         \x20         volumeMounts:\n\
         \x20           - {{ name: study, mountPath: /study }}\n\
         \x20     volumes:\n\
         \x20       - name: study\n\
         \x20         # The study's file, data and results, on a volume that all pods can write (ReadWriteMany).\n\
         \x20         persistentVolumeClaim: {{ claimName: YOUR-CLAIM }}\n"
    )
}

/// A path as a word of the shell.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
