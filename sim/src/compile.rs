//! Compiles the kernels and the simulator's runtime with the machine's C++ compiler; for `build.rs` and for the program.

use std::{
    collections::BTreeSet,
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
    time::SystemTime,
};

/// What the result is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `libcuda.so`, fast.
    Plain,
    /// The program `replay` with AddressSanitizer and UndefinedBehaviorSanitizer.
    Asan,
    /// The program `replay` with ThreadSanitizer.
    Tsan,
}

impl Flavour {
    /// Name of the file that [`build`] makes.
    pub const fn product(self) -> &'static str {
        match self {
            Self::Plain => "libcuda.so",
            Self::Asan | Self::Tsan => "replay",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["-O2", "-g1"],
            Self::Asan => &["-O1", "-g1", "-fno-omit-frame-pointer", "-DSIM_ASAN"],
            Self::Tsan => &["-O1", "-g1", "-DSIM_TSAN"],
        }
    }

    fn sanitizers(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            // Of UndefinedBehaviorSanitizer what AddressSanitizer does not find itself: the whole doubles the time to compile.
            Self::Asan => &[
                "-fsanitize=address,alignment,bounds,shift,signed-integer-overflow,integer-divide-by-zero",
                "-fno-sanitize-recover=all",
            ],
            Self::Tsan => &["-fsanitize=thread"],
        }
    }
}

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// No C++ compiler; the name that was tried.
    NoCompiler(String),
    /// The compiler's messages.
    Compiler(String),
}

/// A file to compile.
struct Unit {
    source: PathBuf,
    object: PathBuf,
    kernels: bool,
}

struct Compiler {
    program: String,
    common: Vec<String>,
    flavour: Flavour,
    sim: PathBuf,
}

/// The `.cu` files of a folder, sorted; none if there is no such folder.
pub fn kernels_in(folder: &Path) -> Vec<PathBuf> {
    files(folder, "cu")
}

/// Compiles what changed since the last call, and returns the product's path in `out`. `sim` is the folder of this package;
/// warnings of the compiler are passed to `warn`.
///
/// # Errors
/// There is no compiler, or it found an error.
pub fn build(
    flavour: Flavour,
    sim: &Path,
    kernels: &[PathBuf],
    out: &Path,
    warn: impl Fn(&str) + Sync,
) -> Result<PathBuf, Failure> {
    let compiler = Compiler::find(flavour, sim)?;
    let objects = out.join("objects");
    fs::create_dir_all(&objects).map_err(|e| Failure::Compiler(format!("{}: {e}", objects.display())))?;
    let mut sources = files(&sim.join("runtime"), "cpp");
    if flavour != Flavour::Plain {
        sources.extend(files(&sim.join("replay"), "cpp"));
    }
    let unit = |source: &PathBuf, kernels| {
        let folder = source.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        Unit { source: source.clone(), object: objects.join(format!("{folder}_{name}.o")), kernels }
    };
    let units: Vec<Unit> =
        kernels.iter().map(|s| unit(s, true)).chain(sources.iter().map(|s| unit(s, false))).collect();
    let stale: Vec<&Unit> = units.iter().filter(|unit| compiler.is_stale(unit)).collect();
    compile_all(&compiler, &stale, &warn)?;
    let product = out.join(flavour.product());
    compiler.link(&units, &product)?;
    Ok(product)
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

/// Compiles several files at a time, as many as cargo allows; a .cu file takes seconds.
fn compile_all(compiler: &Compiler, units: &[&Unit], warn: &(impl Fn(&str) + Sync)) -> Result<(), Failure> {
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let queue = Mutex::new(units.iter());
    let failures = Mutex::new(String::new());
    thread::scope(|scope| {
        for _ in 0..units.len().min(jobs) {
            scope.spawn(|| {
                loop {
                    let unit = queue.lock().expect("no panic while held").next();
                    let Some(unit) = unit else { break };
                    match compiler.compile(unit) {
                        Ok(warnings) if warnings.is_empty() => {}
                        Ok(warnings) => warn(&warnings),
                        Err(Failure::Compiler(messages)) => *failures.lock().expect("no panic while held") += &messages,
                        Err(Failure::NoCompiler(_)) => unreachable!("it was found"),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic while held");
    if failures.is_empty() { Ok(()) } else { Err(Failure::Compiler(failures)) }
}

impl Compiler {
    fn find(flavour: Flavour, sim: &Path) -> Result<Self, Failure> {
        let program = env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
        let works = Command::new(&program).arg("--version").output().is_ok_and(|output| output.status.success());
        if !works {
            return Err(Failure::NoCompiler(program));
        }
        // Without fused multiply-adds that the source does not ask for, results are the same on all machines.
        let mut common: Vec<String> =
            ["-std=c++17", "-DSIM", "-fPIC", "-fvisibility=hidden", "-pthread", "-ffp-contract=off"]
                .map(str::to_owned)
                .to_vec();
        common.extend(flavour.flags().iter().map(|flag| (*flag).to_owned()));
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            common.push("-march=x86-64-v3".to_owned());
        }
        for folder in ["include", "runtime", "../kernels"] {
            common.push(format!("-I{}", sim.join(folder).display()));
        }
        Ok(Self { program, common, flavour, sim: sim.to_owned() })
    }

    /// What the object depends on besides the contents of files.
    fn recipe(&self, unit: &Unit) -> String {
        format!("{} {} {}", self.program, unit.source.display(), self.flags(unit).join(" "))
    }

    fn flags(&self, unit: &Unit) -> Vec<String> {
        let mut flags = self.common.clone();
        if unit.kernels {
            // The attribute of cuda_shim.h is not the compiler's. Other warnings about kernels are nvcc's to give.
            flags.push("-Wno-attributes".to_owned());
        } else {
            flags.push("-Wall".to_owned());
        }
        // ThreadSanitizer is to see what kernels do, not how the runtime switches between them.
        if unit.kernels || self.flavour == Flavour::Asan {
            flags.extend(self.flavour.sanitizers().iter().map(|flag| (*flag).to_owned()));
        }
        flags
    }

    fn is_stale(&self, unit: &Unit) -> bool {
        let Some(built) = modified(&unit.object) else { return true };
        let recorded = fs::read_to_string(unit.object.with_extension("recipe")).unwrap_or_default();
        let Ok(dependencies) = fs::read_to_string(unit.object.with_extension("d")) else { return true };
        let newer = |path: &str| modified(Path::new(path)).is_none_or(|time| time >= built);
        let (_, files) = dependencies.split_once(':').unwrap_or_default();
        recorded != self.recipe(unit) || files.split_whitespace().filter(|f| *f != "\\").any(newer)
    }

    fn compile(&self, unit: &Unit) -> Result<String, Failure> {
        let flags = self.flags(unit);
        let dependencies = unit.object.with_extension("d");
        let mut warnings = String::new();
        let mut source = unit.source.clone();
        let track = |command: &mut Command| {
            command.args(["-MD", "-MT", "object", "-MF"]).arg(&dependencies);
        };
        if unit.kernels {
            // Preprocessed first, for the names of the kernels; registering them is added to the same text.
            source = unit.object.with_extension("ii");
            let mut preprocess = self.run(&flags);
            preprocess.args(["-E", "-include", "cuda_shim.h", "-x", "c++"]).arg(&unit.source).arg("-o").arg(&source);
            track(&mut preprocess);
            warnings += &finish(preprocess)?;
            let io = |e: std::io::Error| Failure::Compiler(format!("{}: {e}", source.display()));
            let text = fs::read_to_string(&source).map_err(io)?;
            fs::write(&source, format!("{text}\n{}", registrations(&text))).map_err(io)?;
        }
        let mut compile = self.run(&flags);
        if !unit.kernels {
            track(&mut compile);
        }
        compile.arg("-c").arg(&source).arg("-o").arg(&unit.object);
        warnings += &finish(compile)?;
        fs::write(unit.object.with_extension("recipe"), self.recipe(unit))
            .map_err(|e| Failure::Compiler(format!("{}: {e}", unit.object.display())))?;
        Ok(warnings)
    }

    fn link(&self, units: &[Unit], product: &Path) -> Result<(), Failure> {
        let built = modified(product);
        let list = units.iter().map(|unit| unit.object.display().to_string()).collect::<Vec<_>>().join("\n");
        let list_file = product.with_extension("objects");
        let same = fs::read_to_string(&list_file).is_ok_and(|recorded| recorded == list);
        if same && units.iter().all(|unit| modified(&unit.object) < built) {
            return Ok(());
        }
        // Renamed when complete: a process that has the old file open keeps it.
        let fresh = product.with_extension("new");
        let mut link = self.run(&["-pthread".to_owned(), "-o".to_owned(), fresh.display().to_string()]);
        link.args(self.flavour.sanitizers());
        match self.flavour {
            Flavour::Plain => {
                link.args(["-shared", "-Wl,-soname,libcuda.so"]).args(units.iter().map(|unit| &unit.object));
            }
            Flavour::Asan => {
                link.args(units.iter().map(|unit| &unit.object));
            }
            Flavour::Tsan => {
                link.arg(self.gather(units, product)?);
                link.args(units.iter().filter(|unit| !unit.kernels).map(|unit| &unit.object));
            }
        }
        finish(link)?;
        fs::rename(&fresh, product)
            .and_then(|()| if self.flavour == Flavour::Plain { also_management(product) } else { Ok(()) })
            .and_then(|()| fs::write(&list_file, list))
            .map_err(|e| Failure::Compiler(format!("{}: {e}", product.display())))
    }

    /// One object of all kernels, with their variables in one section; see the script.
    fn gather(&self, units: &[Unit], product: &Path) -> Result<PathBuf, Failure> {
        let gathered = product.with_extension("o");
        let mut command =
            self.run(&["-r".to_owned(), "-nostdlib".to_owned(), "-Wl,--force-group-allocation".to_owned()]);
        command.arg(format!("-Wl,-T,{}", self.sim.join("runtime/gather.ld").display()));
        command.args(units.iter().filter(|unit| unit.kernels).map(|unit| &unit.object)).arg("-o").arg(&gathered);
        finish(command)?;
        Ok(gathered)
    }

    fn run(&self, flags: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(flags);
        command
    }
}

/// Lets the library be found as `libnvidia-ml` too, whose functions it also has.
fn also_management(product: &Path) -> io::Result<()> {
    let link = product.with_file_name("libnvidia-ml.so.1");
    if !link.exists() {
        std::os::unix::fs::symlink(product.file_name().unwrap_or_default(), link)?;
    }
    Ok(())
}

fn finish(mut command: Command) -> Result<String, Failure> {
    let output = command.output().map_err(|e| Failure::Compiler(format!("{command:?}: {e}")))?;
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(messages) } else { Err(Failure::Compiler(messages)) }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

/// C++ that registers every kernel of a preprocessed file: each `extern "C" void name(` that stands in a .cu or .cuh file.
fn registrations(preprocessed: &str) -> String {
    let mut ours = false;
    let mut text = String::new();
    for line in preprocessed.lines() {
        if let Some(marker) = line.strip_prefix("# ") {
            ours = marker.split('"').nth(1).is_some_and(|file| file.ends_with(".cu") || file.ends_with(".cuh"));
        } else if ours {
            text += line;
            text.push('\n');
        }
    }
    let mut seen = BTreeSet::new();
    let mut lines = String::new();
    for declaration in text.split("extern \"C\"").skip(1) {
        let Some((name, bounds)) = kernel(declaration) else { continue };
        if seen.insert(name.to_owned()) {
            lines += &format!(
                "static const sim::Registration registration_{name}(sim::Entry<&{name}>::kernel(\"{name}\", ({bounds})));\n"
            );
        }
    }
    lines
}

/// Name and greatest number of threads (0: any) of a function that returns nothing.
fn kernel(declaration: &str) -> Option<(&str, &str)> {
    let mut rest = declaration.trim_start();
    let mut bounds = "0";
    let mut returns_nothing = false;
    loop {
        if let Some(after) = rest.strip_prefix("__attribute__") {
            let (attribute, after) = parenthesised(after.trim_start())?;
            if let Some((_, arguments)) = attribute.split_once("sim_launch_bounds") {
                let (arguments, _) = parenthesised(arguments.trim_start())?;
                bounds = argument(arguments, 1);
            }
            rest = after.trim_start();
        } else if let Some(after) = rest.strip_prefix("void").filter(|s| s.starts_with(char::is_whitespace)) {
            returns_nothing = true;
            rest = after.trim_start();
        } else {
            break;
        }
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    let (name, after) = rest.split_at(end);
    (returns_nothing && !name.is_empty() && after.trim_start().starts_with('(')).then_some((name, bounds))
}

/// What is inside the parentheses that `text` begins with, and what follows them.
fn parenthesised(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (i > 0).then(|| (&text[1..i], &text[i + 1..]));
        }
    }
    None
}

/// The `n`th of arguments that commas separate.
fn argument(arguments: &str, n: usize) -> &str {
    let mut depth = 0;
    let separates = |c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    };
    arguments.split(separates).nth(n).unwrap_or("0")
}
