//! The program.

fn main() -> std::process::ExitCode {
    roentgen::cli::main()
}
