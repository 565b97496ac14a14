//! Archives to stores: what a manifest holds, what it does not tell, and that a conversion survives everything.

#[path = "common/clock.rs"]
mod clock;
mod common;

use clock::worked;
use common::{fail, roentgen, stderr, succeed};
use flate2::{Compression, read::GzEncoder};
use roentgen::{
    data::{Gray, Intensity, Pixels, Scan, Source, archive},
    rng::{Purpose, Rng},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

type Row = BTreeMap<String, String>;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn facts() -> Value {
    serde_json::from_slice(&fs::read(fixtures().join("archive.json")).unwrap()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The program that converts `archive` to `folder/store` with the key of the fixtures.
fn convert(archive: &Path, folder: &Path, flags: &str) -> Command {
    let key = folder.join("key");
    fs::write(&key, facts()["key"].as_str().unwrap()).unwrap();
    let store = folder.join("store");
    let mut command = roentgen(["convert", text(archive), "--out", text(&store), "--key", text(&key)]);
    command.args(flags.split_whitespace());
    command
}

fn table(path: &Path) -> Vec<Row> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

/// All files below `root` and their bytes.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut pending, mut found) = (vec![root.to_path_buf()], BTreeMap::new());
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.insert(path.strip_prefix(root).unwrap().into(), fs::read(&path).unwrap());
        }
    }
    found
}

/// The tree but for the journal, whose order is that of the threads.
fn result(store: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = tree(store);
    files.remove(Path::new("journal.jsonl"));
    files
}

fn gray(source: &Path, frame: usize) -> Gray {
    let bytes = Source::File(source.into()).read().unwrap();
    Scan::open(&bytes, "file").unwrap().frame(frame).unwrap().render(Intensity::Auto, "file").unwrap()
}

#[test]
fn the_manifest_holds_what_pydicom_reads_and_the_store_its_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, facts) = (fixtures().join("archive"), facts());
    let output = succeed(&mut convert(&archive, folder.path(), ""));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("11 images of 11 files, 4 files rejected, 1 copies left out"), "{said}");
    let store = folder.path().join("store");
    let rows = table(&store.join("manifest.csv"));
    let of = |instance: &str| rows.iter().filter(|row| row["instance"] == instance).collect::<Vec<_>>();
    for (name, expected) in facts["dicom"].as_object().unwrap() {
        let found = of(expected["instance"].as_str().unwrap());
        assert_eq!(found.len().to_string(), expected["frames"].as_str().unwrap(), "{name}");
        for (frame, row) in found.into_iter().enumerate() {
            for (column, value) in expected.as_object().unwrap() {
                let number = |text: &str| text.parse::<f64>().ok();
                let (found, value) = (&row[column], value.as_str().unwrap());
                let same = found == value || number(found).is_some() && number(found) == number(value);
                assert!(same, "{name}: the {column} is {found:?}, and pydicom's is {value:?}");
            }
            assert_eq!(row["frame_number"], frame.to_string());
            let stored = store.join(&row["path"]);
            assert_eq!(gray(&stored, 0), gray(&archive.join(name), frame), "{name}, frame {frame}");
        }
    }
    // A volume and a picture know no patient, and are kept together by their file.
    let others: BTreeSet<&str> = of("").iter().map(|row| row["patient"].as_str()).collect();
    assert_eq!((of("").len(), others.len()), (5, 2));
    assert!(of("").iter().all(|row| row["patient"] == row["source"]));
    let reasons: Vec<String> =
        table(&store.join("rejected.csv")).into_iter().map(|row| row["reason"].clone()).collect();
    for word in ["same bytes", "holds text", "bytes of pixels", "modality is SR", "No such file"] {
        assert_eq!(reasons.iter().filter(|reason| reason.contains(word)).count(), 1, "{word} in {reasons:?}");
    }
    assert_eq!(reasons.len(), 5);
}

#[test]
fn nothing_in_a_store_names_anybody() {
    let folder = tempfile::tempdir().unwrap();
    succeed(&mut convert(&fixtures().join("archive"), folder.path(), ""));
    let facts = facts();
    for (path, bytes) in tree(&folder.path().join("store")) {
        let whole = [path.to_string_lossy().as_bytes(), &bytes].concat().to_ascii_lowercase();
        for secret in facts["secrets"].as_array().unwrap() {
            let secret = secret.as_str().unwrap().to_ascii_lowercase();
            let found = whole.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        }
    }
}

/// The names and numbers of patients in a folder of real files, as far as they are long enough to be looked for.
#[test]
fn nothing_in_a_store_of_real_files_names_anybody() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/dicom_fixtures");
    if !archive.exists() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    succeed(&mut convert(&archive, folder.path(), ""));
    let mut secrets = BTreeSet::new();
    for (path, bytes) in tree(&archive) {
        secrets.extend(path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()));
        // Explicit elements (0010,0010), (0010,0020) and (0020,000D).
        for tag in [b"\x10\0\x10\0PN", b"\x10\0\x20\0LO", b"\x20\0\x0d\0UI"] {
            let Some(at) = bytes.windows(6).position(|part| part == tag) else { continue };
            let length = usize::from(u16::from_le_bytes([bytes[at + 6], bytes[at + 7]]));
            let value = String::from_utf8_lossy(&bytes[at + 8..at + 8 + length]).to_lowercase();
            secrets.insert(value.trim_matches(['\0', ' ']).to_string());
        }
    }
    // Short ones are found by chance among hashes, and some are words of the manifest, as the file rtstruct.dcm is.
    secrets
        .retain(|secret| secret.len() >= 8 && !secret.bytes().all(|b| b.is_ascii_hexdigit()) && secret != "rtstruct");
    assert!(secrets.len() > 50, "{secrets:?}");
    let tables = ["manifest.csv", "rejected.csv", "journal.jsonl"];
    let tables = tables.map(|name| fs::read_to_string(folder.path().join("store").join(name)).unwrap().to_lowercase());
    for secret in &secrets {
        assert!(!tables.iter().any(|table| table.contains(secret.as_str())), "{secret}");
    }
}

/// An archive of `files` slices of noise, as DICOM in folders of twenty, chest and abdomen in turn.
fn make_archive(root: &Path, files: usize) {
    for i in 0..files {
        let mut bytes = vec![0; 128];
        bytes.extend(b"DICM");
        let mut element = |group: u16, number: u16, vr: &[u8; 2], value: &[u8]| {
            let value = [value, if value.len() % 2 == 1 { b"\0" } else { b"" }].concat();
            bytes.extend([group.to_le_bytes(), number.to_le_bytes()].concat());
            bytes.extend(vr);
            if vr == b"OW" {
                bytes.extend([0; 2]);
                bytes.extend((value.len() as u32).to_le_bytes());
            } else {
                bytes.extend((value.len() as u16).to_le_bytes());
            }
            bytes.extend(value);
        };
        let word = |value: u16| value.to_le_bytes();
        element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1");
        element(8, 0x18, b"UI", format!("1.2.3.{i}").as_bytes());
        element(8, 0x60, b"CS", b"CT");
        element(0x10, 0x20, b"LO", format!("patient {}", i / 4).as_bytes());
        element(0x18, 0x15, b"CS", [&b"CHEST"[..], b"ABDOMEN"][i / 4 % 2]);
        for (number, value) in [(2, 1), (0x10, 64), (0x11, 64), (0x100, 16), (0x101, 12), (0x102, 11), (0x103, 0)] {
            element(0x28, number, b"US", &word(value));
        }
        let mut rng = Rng::new(9, Purpose::Test, i as u32, 0);
        let pixels: Vec<u8> = (0..64 * 64).flat_map(|_| (rng.below(4096) as u16).to_le_bytes()).collect();
        element(0x7fe0, 0x10, b"OW", &pixels);
        let path = root.join(format!("{:03}", i / 20)).join(i.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A NIfTI volume of 8-bit slices of 4 x 4 pixels.
fn nifti(slices: i16, held: usize) -> Vec<u8> {
    let mut file = vec![0; 352];
    file[..4].copy_from_slice(&348i32.to_le_bytes());
    let dims = [3, 4, 4, slices, 1, 1, 1, 1];
    dims.iter().enumerate().for_each(|(i, n)| file[40 + 2 * i..][..2].copy_from_slice(&i16::to_le_bytes(*n)));
    file[70..72].copy_from_slice(&2i16.to_le_bytes());
    file[72..74].copy_from_slice(&8i16.to_le_bytes());
    file[108..112].copy_from_slice(&352f32.to_le_bytes());
    file[344..348].copy_from_slice(b"n+1\0");
    file.extend((0..16 * held).map(|i| i as u8));
    file
}

#[test]
fn what_ends_early_or_never_does_not_hold_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    fs::create_dir(&archive).unwrap();
    let packed = |bytes: &[u8]| {
        let mut packed = vec![];
        GzEncoder::new(bytes, Compression::none()).read_to_end(&mut packed).unwrap();
        packed
    };
    let whole = packed(&nifti(30, 30));
    fs::write(archive.join("cut.nii.gz"), &whole[..whole.len() - 100]).unwrap();
    fs::write(archive.join("boundless.nii"), nifti(32767, 2)).unwrap();
    fs::write(archive.join("backup.tar.gz"), packed(&[7; 100_000])).unwrap();
    assert!(Command::new("mkfifo").arg(archive.join("pipe")).status().unwrap().success());
    succeed(&mut convert(&archive, dir.path(), ""));
    let store = dir.path().join("store");
    assert_eq!(table(&store.join("manifest.csv")).len(), 24 + 2);
    let mut reasons: Vec<_> = table(&store.join("rejected.csv")).into_iter().map(|row| row["reason"].clone()).collect();
    reasons.sort();
    let parts = ["32764 more frames", "5 more frames", "neither a file nor a folder", "it holds no NIfTI header"];
    for part in parts {
        assert!(reasons.iter().any(|reason| reason.contains(part)), "{part} is not in {reasons:?}");
    }
    assert_eq!(reasons.len(), 4);
}

#[test]
fn threads_change_no_byte() {
    let archive = fixtures().join("archive");
    for flags in ["", "--bits 8 --size 16", "--intensity min-max --size 5"] {
        let [one, many] = ["1", "5"].map(|threads| {
            let folder = tempfile::tempdir().unwrap();
            succeed(&mut convert(&archive, folder.path(), &format!("{flags} --threads {threads}")));
            result(&folder.path().join("store"))
        });
        assert!(one == many, "{flags:?}");
    }
}

#[test]
fn images_are_fitted_and_cut_to_eight_bits() {
    let folder = tempfile::tempdir().unwrap();
    let archive = fixtures().join("archive");
    succeed(&mut convert(&archive, folder.path(), "--bits 8 --size 16"));
    let store = folder.path().join("store");
    let rows = table(&store.join("manifest.csv"));
    let volume = rows.iter().find(|row| row["format"].starts_with("NIfTI") && row["frame_number"] == "2").unwrap();
    let stored = gray(&store.join(&volume["path"]), 0);
    let whole = roentgen::data::fit(&gray(&archive.join("Aschenputtel.nii.gz"), 2), 16);
    let Pixels::U16(levels) = whole.pixels else { panic!("a volume has 16 bits") };
    let rounded = levels.iter().map(|&v| (f64::from(v) / 257.0).round() as u8).collect();
    assert_eq!(stored, Gray { width: 16, height: 16, pixels: Pixels::U8(rounded) });
    // The table tells of the source.
    assert_eq!((volume["rows"].as_str(), volume["columns"].as_str()), ("5", "7"));
}

/// However often it is killed, it ends with what it would have made at once, and no file was finished twice.
#[test]
fn a_conversion_that_is_killed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, whole, broken) = (folder.path().join("a"), folder.path().join("w"), folder.path().join("b"));
    make_archive(&archive, 400);
    fs::create_dir(&whole).unwrap();
    fs::create_dir(&broken).unwrap();
    succeed(&mut convert(&archive, &whole, "--threads 2"));
    let mut kills = 0;
    for wait in 1.. {
        let mut child = convert(&archive, &broken, "--threads 2").stdout(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(8 * wait) && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(1));
        }
        // On Unix that is SIGKILL.
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 2, "it ended before it was killed");
    assert!(result(&whole.join("store")) == result(&broken.join("store")));
    let journal = fs::read_to_string(broken.join("store/journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 1 + 400);
}

/// What a power failure takes away of the images is made again, and so is a line that it cut.
#[test]
fn lost_images_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let archive = fixtures().join("archive");
    succeed(&mut convert(&archive, folder.path(), ""));
    let store = folder.path().join("store");
    let before = result(&store);
    let images: Vec<&PathBuf> = before.keys().filter(|path| path.starts_with("images")).collect();
    fs::remove_file(store.join(images[0])).unwrap();
    // Of a writer that was killed.
    fs::write(store.join(".manifest.csv.0123456789abcdef.tmp"), "half").unwrap();
    fs::write(store.join(images[3]), b"").unwrap();
    let journal = store.join("journal.jsonl");
    let lines = fs::read(&journal).unwrap();
    fs::write(&journal, &lines[..lines.len() - 7]).unwrap();
    succeed(&mut convert(&archive, folder.path(), ""));
    assert!(result(&store) == before);
    // When all is there, only what could not be read at all is tried again.
    let done = fs::read_to_string(&journal).unwrap();
    succeed(&mut convert(&archive, folder.path(), ""));
    let then = fs::read_to_string(&journal).unwrap();
    let added: Vec<&str> = then.strip_prefix(&done).unwrap().lines().collect();
    assert!(added.len() == 1 && added[0].contains("No such file"), "{added:?}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("a");
    make_archive(&archive, 2000);
    let child = convert(&archive, folder.path(), "--threads 1").stderr(Stdio::piped()).spawn().unwrap();
    let journal = folder.path().join("store/journal.jsonl");
    while fs::read(&journal).map_or(0, |bytes| bytes.len()) < 10_000 {
        sleep(Duration::from_millis(1));
    }
    succeed(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let rows = table(&folder.path().join("store/manifest.csv")).len();
    assert!(rows > 10 && rows < 2000, "{rows}");
    succeed(&mut convert(&archive, folder.path(), ""));
    assert_eq!(table(&folder.path().join("store/manifest.csv")).len(), 2000);
}

/// A limit on the size of files stands in for a full disk: images fit, the journal does not.
#[cfg(unix)]
#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("a");
    make_archive(&archive, 200);
    let command = convert(&archive, folder.path(), "--threads 2");
    let words = command.get_args().map(|arg| format!("'{}'", arg.to_str().unwrap())).collect::<Vec<_>>().join(" ");
    let script = format!("trap '' XFSZ; ulimit -f 40; exec '{}' {words}", env!("CARGO_BIN_EXE_roentgen"));
    fail(
        Command::new("sh").args(["-c", &script]),
        1,
        &["cannot write to the store", "free some space, then give the command again"],
    );
    let journal = folder.path().join("store/journal.jsonl");
    let kept = fs::read(&journal).unwrap();
    assert!(kept.len() > 10_000 && kept.ends_with(b"\n"), "{}", kept.len());
    succeed(&mut convert(&archive, folder.path(), ""));
    assert!(fs::read(&journal).unwrap().starts_with(&kept));
    assert_eq!(table(&folder.path().join("store/manifest.csv")).len(), 200);
}

#[test]
fn a_store_keeps_to_its_key_and_its_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let archive = fixtures().join("archive");
    let store = folder.path().join("store");
    let plain = |flags: &[&str]| {
        let mut command = roentgen(["convert", text(&archive), "--out", text(&store)]);
        command.args(flags);
        command
    };
    fail(&mut roentgen(["convert", "/nowhere", "--out", text(&store)]), 1, &["/nowhere"]);
    assert!(tree(folder.path()).keys().all(|file| file.extension() != Some("key".as_ref())), "a key is left");
    let empty = tempfile::tempdir().unwrap();
    fail(
        &mut roentgen(["convert", text(empty.path()), "--out", text(&folder.path().join("none"))]),
        1,
        &["no files in"],
    );
    fail(&mut roentgen(["convert", text(empty.path()), "--out", text(empty.path())]), 1, &["the archive's own folder"]);
    assert!(tree(empty.path()).is_empty());
    succeed(&mut plain(&[]));
    let key = folder.path().join("store.key");
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.metadata().unwrap().permissions()) & 0o777, 0o600);
    let made = fs::read(&key).unwrap();
    assert_eq!(made.trim_ascii().len(), 64);
    fail(&mut plain(&["--bits", "8"]), 1, &["begun with another --size"]);
    fs::write(&key, "another key of thirty-two letters").unwrap();
    fail(&mut plain(&[]), 1, &["begun with another key"]);
    fs::write(&key, "short").unwrap();
    fail(&mut plain(&[]), 1, &["shorter than 32"]);
    fs::remove_file(&key).unwrap();
    fail(&mut plain(&[]), 1, &["the key of the store"]);
    assert!(!key.exists());
    // Another key gives other hashes.
    let other = folder.path().join("other");
    succeed(&mut roentgen(["convert", text(&archive), "--out", text(&other)]));
    let patients = |store: &Path| -> BTreeSet<String> {
        table(&store.join("manifest.csv")).into_iter().map(|row| row["patient"].clone()).collect()
    };
    assert!(patients(&store).is_disjoint(&patients(&other)));
}

#[test]
fn a_network_trains_on_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("a");
    make_archive(&archive, 80);
    succeed(&mut convert(&archive, folder.path(), "--size 32 --bits 8"));
    let (manifest, run) = (folder.path().join("store/manifest.csv"), folder.path().join("run"));
    let recipe =
        "--path path --target body_part --group patient --model mobilenet_v3_small --size 32 --epochs 1 --batch 8";
    let mut command = roentgen(["finetune", "--data", text(&manifest), "--out", text(&run)]);
    let said = stderr(&succeed(command.args(recipe.split(' '))));
    assert!(said.contains("ABDOMEN") && said.contains("CHEST"), "{said}");
    let splits = table(&run.join("manifest.csv")).into_iter().map(|row| (row["group"].clone(), row["split"].clone()));
    let splits: BTreeSet<(String, String)> = splits.collect();
    assert_eq!(splits.len(), 20, "a patient is in two splits: {splits:?}");
    let pretrained = folder.path().join("pretrained");
    let mut command =
        roentgen(["pretrain", "--data", text(&manifest), "--out", text(&pretrained), "--modalities", "CT"]);
    succeed(command.args(recipe.split(' ')));
}

/// A measurement of processor time, not a test: `ARCHIVE=FOLDER cargo test --release --test archive -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a test"]
fn speed_beside_decoding() {
    let Ok(root) = std::env::var("ARCHIVE") else { return };
    let root = PathBuf::from(root);
    let files: Vec<PathBuf> = tree(&root).into_keys().map(|name| root.join(name)).collect();
    let bytes: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    let decode = || {
        let mut images = 0;
        for path in &files {
            let bytes = fs::read(path).unwrap();
            let Ok(scan) = Scan::open(&bytes, "file") else { continue };
            for k in 0..scan.facts().frames {
                images += usize::from(scan.frame(k).and_then(|f| f.render(Intensity::Auto, "file")).is_ok());
            }
        }
        images
    };
    for bits in [16, 8] {
        let (mut decoding, mut converting, mut images) = (0.0, 0.0, 0);
        for _ in 0..3 {
            let start = worked();
            images += decode();
            decoding += worked() - start;
            let folder = tempfile::tempdir().unwrap();
            let key = archive::Key::open_or_make(&folder.path().join("key")).unwrap();
            let options = archive::Options { size: None, bits, intensity: Intensity::Auto, threads: 1 };
            let (store, stop) = (folder.path().join("store"), Default::default());
            let start = worked();
            archive::convert(std::slice::from_ref(&root), &store, &key, &options, &stop, &mut |_| ()).unwrap();
            converting += worked() - start;
        }
        let rates = |seconds: f64| {
            format!("{:.0} images/s, {:.0} MB/s", images as f64 / seconds, 3e-6 * bytes as f64 / seconds)
        };
        let share = 100.0 * decoding / converting;
        println!("{bits} bit: decoding {}; converting {}: {share:.0} %", rates(decoding), rates(converting));
    }
}
