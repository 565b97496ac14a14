//! `kernels.rs` in the output folder: every `kernels/*.cu`, compiled by nvcc, for `src/device/cuda/fatbin.rs`.
//!
//! Without an nvcc the list is empty and the program runs on the CPU. A GPU is never asked for. The environment may say:
//! - `NVCC`, `CUDA_HOME`, `CUDA_PATH`: where nvcc is;
//! - `ROENTGEN_CUDA_ARCHS`: architectures, such as `80,90a`, or `none`;
//! - `ROENTGEN_REQUIRE_CUDA=1`: that a build without kernels is an error.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, exit},
    sync::Mutex,
    thread,
};

/// What a release carries: every generation since Ampere (a Hopper chip runs only its own `90a`, never `90`).
const RELEASE_ARCHS: &str = "80,86,89,90a,100,120";
/// What a debug build carries: one compilation per edit, and still every chip, through its PTX.
const DEBUG_ARCHS: &str = "80";
/// The architecture whose PTX machine code is made from, except for a chip's own (`90a`): translating the sources takes
/// longer than all that follows. It goes along with `80`, and the driver compiles it for chips that are not in the list.
const COMMON_ARCH: &str = "80";
/// The oldest that the kernels can be compiled for, because of cp.async and bf16.
const OLDEST_ARCH: u32 = 80;
/// What leaves the kernels out on purpose: for work on what does not need them.
const NO_ARCHS: &str = "none";
/// The oldest nvcc that knows all of [`RELEASE_ARCHS`] and fits the driver that cudarc's bindings ask for.
const OLDEST_NVCC: u32 = 13;

/// Compiles what changed and writes the table that `src/device/cuda/fatbin.rs` includes.
pub fn build(root: &Path, out: &Path) {
    println!("cargo:rerun-if-changed=kernels");
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "ROENTGEN_CUDA_ARCHS", "ROENTGEN_REQUIRE_CUDA"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let folder = root.join("kernels");
    let sources = Sources::read(&folder);
    let mut table = Table { hash: hash(sources.files.iter().flat_map(|(_, text)| text)), ..Table::default() };
    let wanted = env::var("ROENTGEN_CUDA_ARCHS").unwrap_or_else(|_| default_archs().into());
    match (wanted != NO_ARCHS).then(|| Nvcc::find(root)) {
        Some(Some(nvcc)) => {
            println!("cargo:rerun-if-changed={}", nvcc.path.display());
            let archs = archs(&nvcc, &wanted);
            table.archs = codes(&archs).into_iter().flat_map(|(_, codes)| codes).collect();
            table.fatbins = compile(&nvcc, &archs, &folder, &sources, out);
            table.nvcc = Some(nvcc.version);
        }
        _ if env::var("ROENTGEN_REQUIRE_CUDA").is_ok_and(|v| v == "1") => {
            fail("ROENTGEN_REQUIRE_CUDA=1, but there is no nvcc 13: run scripts/get-nvcc, or set NVCC or CUDA_HOME")
        }
        None => {}
        Some(None) => {
            println!("cargo:warning=no nvcc 13 found: building without CUDA kernels (scripts/get-nvcc gets one)")
        }
    }
    fs::write(out.join("kernels.rs"), table.text()).expect("the output folder can be written to");
}

/// The compiler and what it says it is, such as `13.0.88`.
struct Nvcc {
    path: PathBuf,
    version: String,
}

impl Nvcc {
    /// The first that answers: `NVCC`, `CUDA_HOME`, `CUDA_PATH`, `.cuda/`, `PATH`, `/usr/local/cuda`.
    fn find(root: &Path) -> Option<Nvcc> {
        if let Some(path) = env::var_os("NVCC") {
            let nvcc = Nvcc::ask(path.clone().into());
            return nvcc.or_else(|| fail(&format!("NVCC={} is not an nvcc {OLDEST_NVCC} or later", path.display())));
        }
        let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(|d| Path::new(&d).join("bin"));
        let own = root.join(".cuda/nvidia/cu13/bin");
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = homes.chain([own]).chain(env::split_paths(&path)).chain(["/usr/local/cuda/bin".into()]);
        folders.map(|folder| folder.join("nvcc")).filter(|path| path.is_file()).find_map(Nvcc::ask)
    }

    fn ask(path: PathBuf) -> Option<Nvcc> {
        let answer = Command::new(&path).arg("--version").output().ok()?;
        let version =
            String::from_utf8_lossy(&answer.stdout).split_once(", V")?.1.split_whitespace().next()?.to_owned();
        let major: u32 = version.split('.').next()?.parse().ok()?;
        (major >= OLDEST_NVCC).then_some(Nvcc { path, version })
    }
}

fn default_archs() -> &'static str {
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") { RELEASE_ARCHS } else { DEBUG_ARCHS }
}

/// The architectures of a list, less those that this nvcc does not know.
fn archs(nvcc: &Nvcc, wanted: &str) -> Vec<String> {
    let answer = Command::new(&nvcc.path).arg("--list-gpu-code").output().expect("it answered before");
    let known = String::from_utf8_lossy(&answer.stdout).into_owned();
    let knows = |arch: &str| {
        let number = arch.strip_suffix('a').unwrap_or(arch);
        number.parse::<u32>().is_ok_and(|n| n >= OLDEST_ARCH)
            && known.lines().any(|code| code == format!("sm_{number}"))
    };
    let (archs, unknown): (Vec<_>, Vec<_>) =
        wanted.split(',').map(str::trim).filter(|a| !a.is_empty()).map(String::from).partition(|a| knows(a));
    for arch in unknown {
        println!(
            "cargo:warning=sm_{arch} is left out: it is older than sm_{OLDEST_ARCH}, or unknown to nvcc {}",
            nvcc.version
        );
    }
    if archs.is_empty() {
        fail(&format!(
            "ROENTGEN_CUDA_ARCHS={wanted} names no architecture from {OLDEST_ARCH} on that nvcc {} knows",
            nvcc.version
        ));
    }
    archs
}

/// What PTX is made of the sources, by architecture, and what each is made into, in nvcc's names.
fn codes(archs: &[String]) -> Vec<(&str, Vec<String>)> {
    let (own, common): (Vec<&String>, Vec<_>) = archs.iter().partition(|arch| arch.ends_with('a'));
    let mut shared: Vec<_> = common.iter().map(|arch| format!("sm_{arch}")).collect();
    if common.iter().any(|arch| *arch == COMMON_ARCH) {
        shared.push(format!("compute_{COMMON_ARCH}"));
    }
    let shared = (!shared.is_empty()).then_some((COMMON_ARCH, shared));
    shared.into_iter().chain(own.into_iter().map(|arch| (arch.as_str(), vec![format!("sm_{arch}")]))).collect()
}

/// The files of `kernels/`, sorted by name.
struct Sources {
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Sources {
    fn read(folder: &Path) -> Sources {
        let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("a readable folder").path());
        let mut paths: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "cu" || e == "cuh")).collect();
        paths.sort();
        let text = |path: &PathBuf| fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Sources { files: paths.into_iter().map(|path| (path.clone(), text(&path))).collect() }
    }

    /// The text of a file, and behind it that of the headers of the folder that it includes.
    fn with_headers(&self, path: &Path) -> Vec<u8> {
        let (mut reached, mut all, mut next) = (vec![path.to_owned()], vec![], 0);
        while let Some(path) = reached.get(next).cloned() {
            next += 1;
            let Some((_, text)) = self.files.iter().find(|(file, _)| *file == path) else { continue };
            all.extend_from_slice(text);
            for line in String::from_utf8_lossy(text).lines().filter(|line| line.starts_with("#include \"")) {
                let header = path.with_file_name(line.split('"').nth(1).expect("it has a quote"));
                if !reached.contains(&header) {
                    reached.push(header);
                }
            }
        }
        all
    }
}

/// One compiled file, and the kernels it exports.
struct Fatbin {
    name: String,
    kernels: Vec<String>,
}

/// Compiles each `.cu` file into `NAME.fatbin` in `out`, as many at once as cargo grants, and reads the logs.
fn compile(nvcc: &Nvcc, archs: &[String], folder: &Path, sources: &Sources, out: &Path) -> Vec<Fatbin> {
    let mut files: Vec<_> =
        sources.files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "cu")).collect();
    // Those that include most take longest: they go first.
    files.sort_by_key(|(path, _)| sources.with_headers(path).len());
    let queue = Mutex::new(files);
    let logs = Mutex::new(vec![]);
    let work = || {
        while let Some((path, _)) = { queue.lock().expect("no panic").pop() } {
            let settings = format!("{} {} {}", nvcc.version, archs.join(" "), FLAGS.join(" "));
            let key = hash(sources.with_headers(path).iter().chain(settings.as_bytes()));
            let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
            let log = compile_one(nvcc, archs, folder, &name, &key, out);
            logs.lock().expect("no panic").push((name, log));
        }
    };
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(work))));
    let mut logs = logs.into_inner().expect("no panic");
    logs.sort();
    let failed: Vec<_> = logs.iter().filter_map(|(_, log)| log.as_ref().err()).map(String::as_str).collect();
    if !failed.is_empty() {
        fail(&failed.join("\n"));
    }
    logs.into_iter().map(|(name, log)| Fatbin { kernels: report(&name, &log.expect("checked")), name }).collect()
}

/// `-v` makes ptxas tell what it exports and spills.
const FLAGS: [&str; 6] = ["-std=c++17", "-O3", "-Xptxas", "-v", "-fatbin", "--compress-mode=size"];

/// Compiles one file unless its output has the same key; returns the compiler's log, or its errors.
fn compile_one(
    nvcc: &Nvcc,
    archs: &[String],
    folder: &Path,
    name: &str,
    key: &str,
    out: &Path,
) -> Result<String, String> {
    let [fatbin, log, stamp] = ["fatbin", "log", "key"].map(|extension| out.join(name).with_extension(extension));
    if fatbin.is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == key) {
        return fs::read_to_string(&log).map_err(|e| format!("{}: {e}", log.display()));
    }
    let code =
        codes(archs).into_iter().map(|(ptx, codes)| format!("-gencode=arch=compute_{ptx},code=[{}]", codes.join(",")));
    let source = folder.join(name).with_extension("cu");
    fs::remove_file(&stamp).ok();
    let mut command = Command::new(&nvcc.path);
    command.args(FLAGS).args(code).arg("-o").arg(&fatbin).arg(source);
    let output = command.output().map_err(|e| format!("{}: {e}", nvcc.path.display()))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(text.lines().filter(|line| !line.contains("ptxas info")).collect::<Vec<_>>().join("\n"));
    }
    let written = fs::write(&log, &text).and_then(|()| fs::write(&stamp, key));
    written.map(|()| text).map_err(|e| format!("{}: {e}", out.display()))
}

/// Warns of what the compiler warned of and of every register spill; returns the names of the exported kernels.
fn report(file: &str, log: &str) -> Vec<String> {
    let (mut kernels, mut at) = (vec![], String::new());
    for line in log.lines() {
        if let Some((_, entry)) = line.split_once("Compiling entry function ") {
            // 'relu_fwd_f32' for 'sm_80'
            let mut quoted = entry.split('\'').skip(1).step_by(2);
            let kernel = quoted.next().expect("a name").to_owned();
            at = format!("{kernel}, {}", quoted.next().expect("an architecture"));
            kernels.push(kernel);
        } else if line.contains("bytes spill stores") && !line.contains(" 0 bytes spill stores, 0 bytes spill loads") {
            println!("cargo:warning=kernels/{file}.cu: {at}: registers spill: {}", line.trim());
        } else if line.contains("): warning ") {
            println!("cargo:warning={line}");
        }
    }
    kernels.sort();
    kernels.dedup();
    kernels
}

/// What the program is told about its kernels.
#[derive(Default)]
struct Table {
    nvcc: Option<String>,
    archs: Vec<String>,
    hash: String,
    fatbins: Vec<Fatbin>,
}

impl Table {
    fn text(&self) -> String {
        let entry = |Fatbin { name, kernels }: &Fatbin| {
            let image = format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.fatbin\"))");
            format!("    Fatbin {{ name: {name:?}, image: {image}, kernels: &{kernels:?} }},\n")
        };
        let fatbins: String = self.fatbins.iter().map(entry).collect();
        format!(
            "static TABLE: Table = Table {{ nvcc: {:?}, archs: &{:?}, hash: {:?}, fatbins: &[\n{fatbins}] }};\n",
            self.nvcc, self.archs, self.hash
        )
    }
}

/// FNV-1a, 64 bits, in hexadecimal: tells versions apart, and is the same on every machine.
fn hash<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> String {
    let step = |state: u64, byte: &u8| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step))
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    exit(1)
}
