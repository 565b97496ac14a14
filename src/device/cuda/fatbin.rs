//! The CUDA kernels inside the program, as `build.rs` compiled them.

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// One compiled `kernels/NAME.cu`: a file for `cuModuleLoadData` with code for each of [`ARCHS`].
#[derive(Debug)]
pub struct Fatbin {
    /// Name of the source file, without its extension.
    pub name: &'static str,
    /// Bytes of the file.
    pub image: &'static [u8],
    /// Names of the kernels in it, such as `max_pool_fwd_bf16`, sorted.
    pub kernels: &'static [&'static str],
}

// Statics: of a constant each unit of code generation may have a copy.

/// All kernels, by file; empty if the program was built without nvcc.
pub static FATBINS: &[Fatbin] = TABLE.fatbins;
/// What every fatbin has code for, in nvcc's names: `sm_80`, `sm_90a`, `compute_80` (PTX, compiled by the driver).
pub static ARCHS: &[&str] = TABLE.archs;
/// Version of the nvcc that compiled them, or `None` if there was none.
pub static NVCC: Option<&str> = TABLE.nvcc;
/// Hash of the sources in `kernels/`, in hexadecimal: two programs with the same one have the same kernels.
pub static KERNELS_HASH: &str = TABLE.hash;

struct Table {
    nvcc: Option<&'static str>,
    archs: &'static [&'static str],
    hash: &'static str,
    fatbins: &'static [Fatbin],
}

/// Which of [`FATBINS`] holds a kernel.
pub(super) fn holding(kernel: &str) -> Option<usize> {
    FATBINS.iter().position(|fatbin| fatbin.kernels.binary_search(&kernel).is_ok())
}

/// Which of [`ARCHS`] a chip of a compute capability would run, or `None` if there is no code for it.
pub fn code_for(major: u32, minor: u32) -> Option<&'static str> {
    choose(ARCHS, 10 * major + minor)
}

/// Machine code runs on chips of its generation that are as new or newer, and if its name ends in `a` on its own chip
/// alone; PTX runs on everything as new or newer. The newest that fits is taken.
fn choose<'a>(archs: &[&'a str], chip: u32) -> Option<&'a str> {
    let newest = |prefix: &str, fits: &dyn Fn(u32, bool) -> bool| {
        let number = |arch: &&str| {
            let digits = arch.strip_prefix(prefix)?;
            let least = digits.trim_end_matches('a').parse::<u32>().ok()?;
            fits(least, digits.ends_with('a')).then_some(least)
        };
        archs.iter().copied().filter(|arch| number(arch).is_some()).max_by_key(number)
    };
    let machine = |least, own| if own { least == chip } else { least / 10 == chip / 10 && least <= chip };
    newest("sm_", &machine)
        .or_else(|| newest("compute_", &|least, own| if own { least == chip } else { least <= chip }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_run_the_code_made_for_them() {
        let archs = ["sm_80", "compute_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"];
        let chips =
            [(80, "sm_80"), (86, "sm_86"), (90, "sm_90a"), (103, "sm_100"), (110, "compute_80"), (121, "sm_120")];
        for (chip, arch) in chips {
            assert_eq!(choose(&archs, chip), Some(arch), "chip {chip}");
        }
        assert_eq!(choose(&archs, 75), None);
        assert_eq!(choose(&["sm_90a"], 89), None);
        assert_eq!(choose(&["sm_90a"], 100), None);
        assert_eq!(choose(&["sm_86"], 80), None);
    }

    #[test]
    fn every_file_has_an_image_and_kernels_of_its_own() {
        const MAGIC: [u8; 4] = 0xba55_ed50_u32.to_le_bytes();
        for fatbin in FATBINS {
            assert_eq!(fatbin.image[..4], MAGIC, "{}", fatbin.name);
            assert!(!fatbin.kernels.is_empty(), "{}", fatbin.name);
            for kernel in fatbin.kernels {
                assert_eq!(FATBINS[holding(kernel).expect("it is here")].name, fatbin.name, "{kernel}");
            }
        }
        assert_eq!(FATBINS.is_empty(), NVCC.is_none());
        assert_eq!(holding("no_such_kernel"), None);
    }
}
