//! Files made to do harm: each gets an error that names it, runs nothing, and takes no memory out of proportion to its
//! size. Alone in its program, since it counts all memory.

use flate2::{Compression, write::GzEncoder};
use roentgen::{
    Result,
    weights::{Archive, Listing},
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    io::Write,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The system's allocator, counting the bytes in use and the most there were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every call on to the system's allocator and only counts. Growing in place is left to the default, which
// allocates anew, so that both blocks count.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(IN_USE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(IN_USE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What comes before the pickle of the values in a file of the legacy format.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fn read(bytes: Vec<u8>) -> Result<Archive> {
    Listing::of_bytes(bytes, Path::new("hostile.pth"))?.read()
}

/// Reads `bytes` and panics unless the error says all of `words` and at most `times` their size was taken beside them,
/// or 2 MiB: a gzip decoder and a buffer of the legacy format have a fixed size.
#[track_caller]
fn refused_within(times: usize, what: &str, bytes: Vec<u8>, words: &[&str]) {
    let len = bytes.len();
    let before = IN_USE.load(Relaxed);
    MOST.store(before, Relaxed);
    let error = read(bytes).err().unwrap_or_else(|| panic!("{what}: accepted")).to_string();
    let taken = MOST.load(Relaxed) - before;
    assert!(error.contains("hostile.pth") && error.contains("try: "), "{what}: {error}");
    assert!(words.iter().all(|word| error.contains(word)), "{what}: {error}");
    assert!(taken <= times * len + (2 << 20), "{what}: {taken} bytes taken for {len}");
}

#[track_caller]
fn refused(what: &str, bytes: Vec<u8>, words: &[&str]) {
    refused_within(4, what, bytes, words);
}

/// An entry of a zip file as its directory has it; the entry itself may be another.
#[derive(Clone)]
struct Entry {
    name: String,
    method: u16,
    len: u32,
    at: u32,
}

/// A zip file of stored entries, with a directory that `lie` has changed.
fn zip_with(entries: &[(&str, &[u8])], lie: impl Fn(&mut Vec<Entry>)) -> Vec<u8> {
    let mut bytes = vec![];
    let mut directory = vec![];
    for (name, data) in entries {
        let (at, len) = (bytes.len() as u32, data.len() as u32);
        directory.push(Entry { name: name.to_string(), method: 0, len, at });
        bytes.extend(b"PK\x03\x04");
        bytes.extend([0; 22]);
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(name.bytes());
        bytes.extend(*data);
    }
    lie(&mut directory);
    let start = bytes.len() as u32;
    for Entry { name, method, len, at } in &directory {
        bytes.extend(b"PK\x01\x02");
        bytes.extend([0; 6]);
        bytes.extend(method.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(len.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend(at.to_le_bytes());
        bytes.extend(name.bytes());
    }
    let (end, count) = (bytes.len() as u32, directory.len() as u16);
    bytes.extend(b"PK\x05\x06");
    bytes.extend([0; 4]);
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend((end - start).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

/// A file of `torch.save` with this pickle, and one storage of four floats under the key 0.
fn torch(pickle: &[u8]) -> Vec<u8> {
    zip_with(&[("a/data.pkl", pickle), ("a/data/0", &[0; 16])], |_| ())
}

fn integer(value: i64) -> Vec<u8> {
    [&b"\x8a\x08"[..], &value.to_le_bytes()].concat()
}

fn short(text: &str) -> Vec<u8> {
    [&[0x8c, text.len() as u8], text.as_bytes()].concat()
}

/// The instructions that make a tensor.
fn tensor(key: &str, numel: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let tuple =
        |items: &[i64]| [&b"("[..], &items.iter().flat_map(|item| integer(*item)).collect::<Vec<_>>(), b"t"].concat();
    [
        &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
        &short("storage"),
        b"ctorch\nFloatStorage\n",
        &short(key),
        &short("cpu"),
        &integer(numel),
        b"tQ",
        &integer(offset),
        &tuple(shape),
        &tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

/// A state dictionary of these tensors.
fn dictionary(tensors: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = tensors.iter().flat_map(|(name, tensor)| [short(name), tensor.clone()].concat()).collect();
    [&b"\x80\x02}("[..], &items, b"u."].concat()
}

fn one(numel: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    torch(&dictionary(&[("w", tensor("0", numel, offset, shape, strides))]))
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(vec![]);
    for (name, data) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn hostile_files_are_refused() {
    // The files of this test are sound where they do not lie.
    assert_eq!(read(one(4, 0, &[2, 2], &[2, 1])).unwrap().tensors.len(), 1);
    // What is set up once, threads for one, is not the file's.
    programs();
    depths_and_claims();
    repeated();
    tensors();
    containers();
    packed();
    headers();
    cut_short();
    corpus();
}

/// Pickles that call what weights do not need.
fn programs() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("executed");
    let command = short(&format!("touch {}", mark.display()));
    let call = |global: &[u8]| torch(&[b"\x80\x02", global, &command, b"\x85R."].concat());
    for (global, name) in [
        (&b"cos\nsystem\n"[..], "os.system"),
        (b"cposix\nsystem\n", "posix.system"),
        (b"cbuiltins\neval\n", "builtins.eval"),
        (b"c__builtin__\ngetattr\n", "__builtin__.getattr"),
        (b"csubprocess\nPopen\n", "subprocess.Popen"),
        (b"ctorch.storage\n_load_from_bytes\n", "torch.storage._load_from_bytes"),
        (b"ctorch\nload\n", "torch.load"),
        (b"ctorch.hub\nload\n", "torch.hub.load"),
        (b"\x8c\x02os\x8c\x06system\x93", "os.system"),
        (b"c__torch__.Net\nForward\n", "__torch__.Net.Forward"),
    ] {
        refused(name, call(global), &[name]);
    }
    refused("in the legacy format", [LEGACY, b"cos\nsystem\n", &command, b"\x85R."].concat(), &["os.system"]);
    // Instructions that call by other ways.
    for instruction in
        [&b"(ios\nsystem\n"[..], b"(cos\nsystem\no", b"}}}\x92", b"\x82\x01", b"Pos\n", b"\x97", b"I01\n"]
    {
        refused("an instruction", torch(&[b"\x80\x02", instruction, b"."].concat()), &[]);
    }
    assert!(!mark.exists(), "something was executed");
}

fn depths_and_claims() {
    const MANY: usize = 1_000_000;
    let repeat =
        |start: &[u8], unit: &[u8], end: &[u8]| torch(&[b"\x80\x02", start, &unit.repeat(MANY), end, b"."].concat());
    refused("marks", repeat(b"", b"(", b""), &["nested more than"]);
    refused("tuples", repeat(b")", b"\x85", b""), &["nested more than"]);
    refused("doubled tuples", repeat(b")", b"2\x86", b""), &["nested more than"]);
    refused("doubled lists", repeat(b"]", b"2\x86q\x00]h\x00a", b""), &["nested more than"]);
    // Each of these bytes is a value; a node has 32 bytes, and a growing list is twice in memory.
    refused_within(120, "lists", repeat(b"", b"]", &b"a".repeat(MANY - 1)), &["nested more than"]);
    refused_within(120, "many lists", repeat(b"", b"]]", b""), &["more than 1048576 values"]);
    // One list of pairs made into many dictionaries would grow as a square.
    let pairs = [&b"]("[..], &b"NN\x86".repeat(100_000), b"eq\x01ccollections\nOrderedDict\nq\x02"].concat();
    refused_within(40, "copied pairs", repeat(&pairs, b"h\x02h\x01\x85R0", b""), &["copies more than it holds"]);
    // A tuple of arguments is not copied at all.
    let tuple = [&b"("[..], &b"N".repeat(MANY), b"tq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02"].concat();
    refused_within(40, "copied arguments", repeat(&tuple[..], b"h\x02h\x01R0", b""), &[]);
    for (what, claim) in [
        ("text", &b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"[..]),
        ("text of 4 GB", b"X\xff\xff\xff\xff"),
        ("bytes", b"\x8e\x00\x00\x00\x00\x00\x01\x00\x00"),
        ("a number", b"\x8b\xff\xff\xff\xff"),
        ("a frame", b"\x95\x00"),
    ] {
        refused(what, torch(&[b"\x80\x02", claim].concat()), &["ends too soon"]);
    }
    for (what, pickle) in [
        ("an empty stack", &b"\x80\x020."[..]),
        ("no mark", b"\x80\x02t."),
        ("below a mark", b"\x80\x02N(\x85."),
        ("no memo", b"\x80\x02h\x05."),
        ("a key alone", b"\x80\x02}(Nu."),
        ("no value", b"\x80\x02."),
        ("a call of a list", b"\x80\x02])R."),
        ("protocol 9", b"\x80\x09."),
    ] {
        refused(what, torch(pickle), &["its pickle"]);
    }
    refused("no dictionary", torch(b"\x80\x02]."), &["no dictionary of tensors"]);
    // A dictionary that holds itself.
    refused("a circle", torch(b"\x80\x02}q\x00\x8c\x05modelh\x00s."), &["no dictionary of tensors"]);
    refused("bad text", torch(b"\x80\x02X\x02\x00\x00\x00\xff\xfe."), &["UTF-8"]);
}

/// Sound files that say the same again and again.
fn repeated() {
    let long = [&b"X\x00\x00\x10\x00"[..], &vec![b'k'; 1 << 20]].concat();
    let weights = [&short("model"), &dictionary_alone(&tensor("0", 4, 0, &[4], &[1]))[..]].concat();
    let keys = [&b"\x80\x02}("[..], &weights, &long, b"q\x00N", &b"h\x00N".repeat(300_000), b"u."].concat();
    let before = IN_USE.load(Relaxed);
    MOST.store(before, Relaxed);
    let listing = Listing::of_bytes(torch(&keys), Path::new("long")).unwrap();
    assert_eq!((listing.places.len(), listing.beside.len()), (1, 33));
    assert!(MOST.load(Relaxed) - before < 20 * keys.len(), "{} bytes taken", MOST.load(Relaxed) - before);
    // One large dictionary under many keys: within a second, not hours.
    let inner = [&b"}("[..], &b"NN".repeat(200_000), b"uq\x00"].concat();
    let many: Vec<u8> = (0..50_000).flat_map(|i| [short(&format!("{i}")), b"h\x00".to_vec()].concat()).collect();
    let shared = [&b"\x80\x02"[..], &inner, b"0}(", &many, b"u."].concat();
    refused_within(60, "a shared dictionary", torch(&shared), &["no dictionary of tensors"]);
}

fn tensors() {
    const HUGE: i64 = 1 << 40;
    let beyond = &["w of shape", "reaches beyond the 16 bytes"];
    refused("too long", one(4, 0, &[5], &[1]), beyond);
    refused("too far", one(4, 1, &[4], &[1]), beyond);
    refused("too sparse", one(4, 0, &[3], &[2]), beyond);
    refused("huge", one(4, 0, &[HUGE, HUGE], &[HUGE, 1]), beyond);
    refused("huge and empty", one(4, 0, &[HUGE, HUGE, 0], &[0, 0, 0]), beyond);
    refused("huge strides", one(4, 0, &[HUGE, 2], &[HUGE, i64::MAX]), beyond);
    refused("a huge offset", one(4, i64::MAX, &[2], &[1]), beyond);
    refused("repeated", one(4, 0, &[HUGE], &[0]), &["out of proportion"]);
    refused("a negative stride", one(4, 3, &[4], &[-1]), &["w has strides"]);
    refused("a negative offset", one(4, -1, &[4], &[1]), &["w has an offset"]);
    refused("a negative extent", one(4, 0, &[-4], &[1]), &["w has a shape"]);
    refused("strides too few", one(4, 0, &[2, 2], &[1]), &["w has strides"]);
    refused("nine axes", one(4, 0, &[1; 9], &[1; 9]), &["w has a shape"]);
    refused("another length", one(5, 0, &[4], &[1]), &["storage 0 of w has not 5 values"]);
    refused("a huge length", one(i64::MAX, 0, &[4], &[1]), &["storage 0 of w has not"]);
    refused("a negative length", one(-4, 0, &[4], &[1]), &["something else than a storage"]);
    let whole = || tensor("0", 4, 0, &[4], &[1]);
    refused(
        "a missing storage",
        torch(&dictionary(&[("w", tensor("1", 4, 0, &[4], &[1]))])),
        &["storage 1 of w is missing"],
    );
    refused("the same name", torch(&dictionary(&[("w", whole()), ("w", whole())])), &["holds w twice"]);
    let of_class = |class: &str| {
        let tensor = whole();
        let at = tensor.windows(12).position(|window| window == b"FloatStorage").unwrap();
        [&tensor[..at], class.as_bytes(), &tensor[at + 12..]].concat()
    };
    refused("two types", torch(&dictionary(&[("w", whole()), ("v", of_class("IntStorage"))])), &["two types or sizes"]);
    refused("quantised", torch(&dictionary(&[("w", of_class("QInt8Storage"))])), &["w holds QInt8Storage values"]);
    let sets =
        [&b"\x80\x02}("[..], &short("x"), &dictionary_alone(&whole()), &short("y"), &dictionary_alone(&whole()), b"u."]
            .concat();
    refused("two sets", torch(&sets), &["several sets of tensors: x, y"]);
}

fn dictionary_alone(tensor: &[u8]) -> Vec<u8> {
    [&b"}"[..], &short("w"), tensor, b"s"].concat()
}

fn containers() {
    let pickle = dictionary(&[("w", tensor("0", 4, 0, &[4], &[1]))]);
    let entries: [(&str, &[u8]); 3] = [("a/data.pkl", &pickle), ("a/data/0", &[0; 16]), ("a/version", b"3\n")];
    let lie = |change: &dyn Fn(&mut Vec<Entry>)| zip_with(&entries, change);
    assert!(read(lie(&|_| ())).is_ok());
    refused("twice the same name", zip_with(&[entries[0], entries[1], entries[1]], |_| ()), &["a/data/0 twice"]);
    refused("the same entry twice", lie(&|list| list.push(list[1].clone())), &["a/data/0 twice"]);
    refused("overlapping", lie(&|list| list[1].len += 8), &["overlap"]);
    refused("compressed", lie(&|list| list[1].method = 8), &["a/data/0 is compressed"]);
    refused("too long", lie(&|list| list[2].len = u32::MAX - 1), &["a/version is longer"]);
    refused("no 64-bit length", lie(&|list| list[2].len = u32::MAX), &["cut off"]);
    refused("elsewhere", lie(&|list| list[1].at += 1), &["a/data/0 is not where"]);
    refused("far away", lie(&|list| list[1].at = u32::MAX - 1), &["ends too soon"]);
    refused("under another name", lie(&|list| list[1].name = "a/data/1".into()), &["a/data/1 is not where"]);
    refused("no pickle", zip_with(&[("a/data/0", &[0; 16])], |_| ()), &["no data.pkl"]);
    refused("two pickles", zip_with(&[("a/data.pkl", &pickle), ("b/data.pkl", &pickle)], |_| ()), &["no data.pkl"]);
    refused("a program", zip_with(&[entries[0], ("a/constants.pkl", b"")], |_| ()), &["TorchScript"]);
    refused("big end first", zip_with(&[entries[0], entries[1], ("a/byteorder", b"big")], |_| ()), &["big end first"]);
    // The end of the directory says what is not so.
    let whole = lie(&|_| ());
    let end = whole.len() - 22;
    for (what, at, field) in [
        ("many entries", 10, &[0xfe, 0xff][..]),
        ("fewer entries", 10, &[2, 0]),
        ("a long directory", 13, &[0xff]),
        ("a far one", 19, &[0x7f]),
    ] {
        let mut bytes = whole.clone();
        bytes[end + at..][..field.len()].copy_from_slice(field);
        refused(what, bytes, &["its directory"]);
    }
    let mut bytes = whole.clone();
    bytes.splice(end..end, [&b"PK\x06\x07"[..], &[0; 4], &8u64.to_le_bytes(), &[0; 4]].concat());
    refused("no 64-bit directory", bytes, &["64-bit directory is missing"]);
    // The legacy format: storages that say more than there is, or that nothing refers to.
    let legacy = |numel: i64, keys: &[u8], data: &[u8]| {
        let values = dictionary(&[("w", tensor("0", numel, 0, &[4], &[1]))]);
        [LEGACY, &values[..], b"\x80\x02](", keys, b"e.", data].concat()
    };
    let data = |numel: u64| [&numel.to_le_bytes()[..], &[0; 16]].concat();
    assert_eq!(read(legacy(4, b"\x8c\x010", &data(4))).unwrap().tensors.len(), 1);
    refused("two sizes", legacy(4, b"\x8c\x010", &data(5)), &["storage 0 has two sizes"]);
    refused("a huge storage", legacy(1 << 60, b"\x8c\x010", &data(1 << 60)), &["ends too soon"]);
    refused("twice", legacy(4, b"\x8c\x010\x8c\x010", &[data(4), data(4)].concat()), &["storage 0 twice"]);
    refused("unknown", legacy(4, b"\x8c\x017", &data(4)), &["no tensor has"]);
    refused("not listed", legacy(4, b"", b""), &["storage 0 of w is missing"]);
    refused("more", legacy(4, b"\x8c\x010", &[&data(4)[..], b"x"].concat()), &["goes on after"]);
    refused("half a fact", LEGACY.to_vec(), &["ends too soon"]);
    let big = [
        &LEGACY[..LEGACY.len() - 2],
        b"}\x8c\x0dlittle_endian\x89s.",
        &legacy(4, b"\x8c\x010", &data(4))[LEGACY.len()..],
    ]
    .concat();
    refused("big end first", big, &["big end first"]);
    refused("a plain pickle", b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00]\x94.".to_vec(), &["is a pickle"]);
    refused("nothing", vec![], &[]);
    refused("text", b"these are no weights, but words".to_vec(), &[]);
}

fn packed() {
    const LARGE: usize = 64 << 20;
    let inner = one(4, 0, &[4], &[1]);
    assert_eq!(read(gzip(&tar(&[("readme", b"words"), ("w.pth", &inner)]))).unwrap().tensors.len(), 1);
    let zeros = vec![0; LARGE];
    // Within 32 times the file, as the reader allows, doubled by a buffer that grows.
    refused_within(100, "zeros", gzip(&zeros), &["unpacks to more than 32 times"]);
    refused_within(100, "zeros in tar", gzip(&tar(&[("w.pth", &zeros)])), &["unpacks to more than 32 times"]);
    let mut padded = inner.clone();
    padded.splice(0..0, b"PK\x03\x04".iter().copied().chain(vec![0; LARGE]));
    refused_within(
        100,
        "zeros that begin as weights",
        gzip(&tar(&[("w.pth", &padded)])),
        &["unpacks to more than 32 times"],
    );
    refused("two files", tar(&[("a.pth", &inner), ("b.pth", &inner)]), &["two files of weights, a.pth and b.pth"]);
    refused("none", tar(&[("a.txt", b"words")]), &["no file of weights"]);
    let mut claims = tar(&[("a.pth", &inner)]);
    // A size of 8 GiB − 1 in octal, with the checksum made right.
    let mut header = tar::Header::from_byte_slice(&claims[..512]).clone();
    header.set_size((1 << 33) - 1);
    header.set_cksum();
    claims[..512].copy_from_slice(header.as_bytes());
    refused("a huge entry", claims.clone(), &["ends too soon"]);
    refused("a huge entry in gzip", gzip(&claims), &["ends too soon"]);
    let mut wrong = gzip(&inner);
    let middle = wrong.len() / 2;
    wrong[middle] ^= 0x10;
    refused("damaged", wrong, &[]);
}

fn headers() {
    let tensor = |dtype: &str, shape: &str, start: usize, end: usize| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let two = |a: (usize, usize), b: (usize, usize), data: usize| {
        let (a, b) = (tensor("F32", "[2]", a.0, a.1), tensor("F32", "[2]", b.0, b.1));
        safetensors(&format!(r#"{{"a":{a},"b":{b}}}"#), data)
    };
    assert!(read(two((0, 8), (8, 16), 16)).is_ok());
    refused("overlapping", two((0, 8), (4, 12), 12), &["safetensors"]);
    refused("the same", two((0, 8), (0, 8), 8), &["safetensors"]);
    refused("a gap", two((0, 8), (12, 20), 20), &["safetensors"]);
    refused("more data", two((0, 8), (8, 16), 20), &["length"]);
    refused("less data", two((0, 8), (8, 16), 12), &["length"]);
    refused("backwards", two((8, 0), (8, 16), 16), &["safetensors"]);
    let one = |dtype: &str, shape: &str, bytes: usize| {
        safetensors(&format!(r#"{{"a":{}}}"#, tensor(dtype, shape, 0, bytes)), bytes)
    };
    refused("another size", one("F32", "[3]", 8), &["safetensors"]);
    refused("huge", one("F32", "[4294967296,4294967296,4294967296]", 8), &["safetensors"]);
    refused("negative", one("F32", "[-2]", 8), &["safetensors"]);
    refused("another type", one("F8_E4M3", "[8]", 8), &["a holds F8_E4M3 values"]);
    refused("no type", one("F31", "[2]", 8), &["safetensors"]);
    assert!(read(one("F32", "[0,4294967296,4294967296,4294967296]", 0)).unwrap().tensors["a"].shape[0] == 0);
    for (what, len) in [("a huge header", u64::MAX), ("a header of 100 MB", 100_000_000), ("a header of 1 TB", 1 << 40)]
    {
        let mut bytes = one("F32", "[2]", 8);
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        refused(what, bytes, &["safetensors"]);
    }
    refused("nested", safetensors(&"[".repeat(1 << 20), 0), &["safetensors"]);
    // Names and maps of a parsed header take more than its text.
    let many = (0..20_000).map(|i| format!(r#""{i}":{}"#, tensor("F32", "[0]", 0, 0))).collect::<Vec<_>>().join(",");
    refused_within(20, "many", safetensors(&format!("{{{many}}}"), 4), &["length"]);
}

/// Real files, cut at every 64th of their length.
fn cut_short() {
    for name in [
        "zip.pth",
        "checkpoint.pth",
        "legacy.pth",
        "views_legacy.pth",
        "checkpoint.tar.gz",
        "legacy.pth.gz",
        "types.safetensors",
    ] {
        let whole = fs::read(format!("{}/tests/fixtures/weights/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(read(whole.clone()).is_ok(), "{name}");
        for part in 0..64 {
            refused(&format!("{name} cut at {part}/64"), whole[..whole.len() * part / 64].to_vec(), &[]);
        }
    }
}

/// What fuzzing has found worth keeping, and the seeds it started from: none may panic or take memory without measure.
fn corpus() {
    let mut files = 0;
    for folder in ["pickle", "torch", "safetensors"] {
        for file in fs::read_dir(format!("{}/fuzz/corpus/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            let bytes = if folder == "pickle" { [LEGACY, &bytes].concat() } else { bytes };
            // Whether it is accepted is not the point.
            drop(read(bytes));
            files += 1;
        }
    }
    assert!(files > 20, "{files}");
}
