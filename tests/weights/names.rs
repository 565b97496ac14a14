//! That the tensors of files find their places in networks, and that no partial load is silent.

use super::fixture;
use flate2::read::GzDecoder;
use roentgen::{
    device::{DType, Device, cpu::Cpu},
    models::{Ends, Model},
    nn::{Builder, Init, Kind, Params},
    weights::{Archive, Matched, Stored, Tensors, Transfer, Values, fold, load_matching, tensors},
};
use serde::Deserialize;
use std::{collections::BTreeMap, fs::File, path::PathBuf, sync::Arc};

type Shapes = BTreeMap<String, Vec<usize>>;

#[derive(Deserialize)]
struct Network {
    source: Shapes,
    target: Shapes,
    pairs: BTreeMap<String, String>,
}

/// An entry that `state_dict` holds as a whole number.
fn counts(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

/// Parameters with these names and shapes; as in a network, the last weights are those of the head.
fn params<'a>(entries: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Params {
    let mut builder = Builder::default();
    for (name, shape) in entries {
        let kind = if name.ends_with("weight") && shape.len() > 1 { Kind::Weight } else { Kind::Undecayed };
        match counts(name) {
            true => drop(builder.counter(name)),
            false => drop(builder.floats(name, shape, kind, Init::Constant(0.0))),
        }
    }
    let device: Arc<dyn Device> = Cpu::new(1 << 30);
    Params::new(builder, &device, DType::F32, 1).unwrap()
}

fn stored(name: &str, shape: &[usize], value: f32) -> (String, Stored) {
    let len = shape.iter().product();
    let values = if counts(name) { Values::I64(vec![value as i64; len]) } else { Values::F32(vec![value; len]) };
    (name.to_string(), Stored { shape: shape.into(), values })
}

fn archive(tensors: impl IntoIterator<Item = (String, Stored)>) -> Archive {
    Archive { path: PathBuf::from("file.pth"), tensors: tensors.into_iter().collect(), state: None }
}

/// Smaller shapes that are alike where the real ones are: these hold the numbers of classes apart, 36 and 4.
fn small(shapes: &Shapes) -> Shapes {
    let shrink = |extent: &usize| if *extent == 36 { 5 } else { (*extent).min(4) };
    shapes.iter().map(|(name, shape)| (name.clone(), shape.iter().map(shrink).collect())).collect()
}

/// Which entry each tensor of the file has filled, or has the values of.
fn pairs(matched: &Matched) -> BTreeMap<String, String> {
    let mut pairs: BTreeMap<_, _> = matched.copied.iter().map(|(from, to, _)| (from.clone(), to.clone())).collect();
    for (name, first) in &matched.doubled {
        pairs.insert(name.clone(), pairs[first].clone());
    }
    pairs
}

#[test]
fn transfer_is_that_of_radiologynet() {
    let file = File::open(fixture("radiologynet.json.gz")).unwrap();
    let networks: BTreeMap<String, Network> = serde_json::from_reader(GzDecoder::new(file)).unwrap();
    assert_eq!(networks.len(), 10);
    // Counts that were measured with the published code.
    let counts = BTreeMap::from([
        ("resnet18", (120, 122)),
        ("resnet34", (216, 218)),
        ("resnet50", (318, 320)),
        ("densenet121", (1450, 1454)),
        ("vgg16", (30, 32)),
        ("efficientnet_b3", (572, 574)),
        ("efficientnet_b4", (704, 706)),
        ("mobilenet_v3_small", (242, 244)),
        ("mobilenet_v3_large", (310, 312)),
    ]);
    for (name, network) in &networks {
        let (source, target) = (small(&network.source), small(&network.target));
        // The head is the last in a network, and a map is ordered by name.
        let (head, rest): (Vec<_>, Vec<_>) =
            target.iter().map(|(name, shape)| (name.as_str(), &shape[..])).partition(|(name, _)| {
                let scope = name.rsplit_once('.').unwrap().0;
                ["fc", "classifier", "classifier.1", "classifier.3", "classifier.6"].contains(&scope)
                    && network.target[*name][0] == 4
            });
        assert_eq!(head.len(), 2, "{name}");
        let params = params(rest.into_iter().chain(head));
        let archive = archive(source.iter().map(|(name, shape)| stored(name, shape, 1.0)));
        let matched = load_matching(&params, &archive, Transfer::default()).unwrap();
        assert_eq!(pairs(&matched), network.pairs, "{name}");
        if let Some(count) = counts.get(name.as_str()) {
            assert_eq!((matched.copied.len() + matched.doubled.len(), source.len()), *count, "{name}");
        }
        // Inception's auxiliary head is for other classes too.
        let head = if name == "inception_v3" { 4 } else { 2 };
        assert!(matched.unfilled.iter().filter(|(_, head)| *head).count() == head, "{name}: the head is not copied");
        load_matching(&params, &archive, Transfer { strict: true, ..Transfer::default() }).unwrap();
    }
}

/// conv1 → bn → fc, three classes.
fn small_net() -> Params {
    let entries: [(&str, &[usize]); 6] = [
        ("conv1.weight", &[2, 3, 1, 1]),
        ("bn1.weight", &[2]),
        ("bn1.bias", &[2]),
        ("bn1.num_batches_tracked", &[]),
        ("fc.weight", &[3, 2]),
        ("fc.bias", &[3]),
    ];
    params(entries)
}

/// What fills it, with 7 for every value.
fn small_file(prefix: &str) -> Tensors {
    let params = small_net();
    params.iter().map(|(_, entry)| stored(&format!("{prefix}{}", entry.name), &entry.file_shape, 7.0)).collect()
}

fn value(params: &Params, name: &str) -> f32 {
    params.get(params.find(name).unwrap()).unwrap()[0]
}

#[test]
fn the_head_is_copied_on_request() {
    for (copy_head, expected) in [(false, 0.0), (true, 7.0)] {
        let params = small_net();
        let transfer = Transfer { copy_head, strict: true, ..Transfer::default() };
        let matched = load_matching(&params, &archive(small_file("module.")), transfer).unwrap();
        assert_eq!(value(&params, "conv1.weight"), 7.0);
        assert_eq!((value(&params, "fc.weight"), value(&params, "fc.bias")), (expected, expected));
        assert_eq!(params.entry(params.find("bn1.num_batches_tracked").unwrap()).counter(), Some(7));
        let (copied, left) = if copy_head { (6, 0) } else { (4, 2) };
        assert_eq!((matched.copied.len(), matched.skipped.len(), matched.unfilled.len()), (copied, left, left));
        let table = matched.table();
        assert!(table[0] == "renamed   module.conv1.weight to conv1.weight (without module.)", "{table:?}");
        assert_eq!(table.len(), copied + 2 * left, "each name is in the table: {table:?}");
    }
}

#[test]
fn all_layers_that_lead_to_the_classes_are_the_head() {
    let device: Arc<dyn Device> = Cpu::new(1 << 30);
    let net = |inputs| {
        let ends = Ends { channels: 3, inputs, classes: 2 };
        Model::between("inception_v3", ends, &device, DType::F32, 1).unwrap()
    };
    let file = |model: &Model| archive(tensors(&model.params).unwrap());
    let (plain, given) = (net(0), net(1));
    let strict = Transfer { strict: true, ..Transfer::default() };
    let matched = load_matching(&given.params, &file(&plain), strict).unwrap();
    let unfilled: Vec<&str> = matched.unfilled.iter().map(|(name, _)| name.as_str()).collect();
    let head = ["AuxLogits.fc.weight", "AuxLogits.fc.bias", "fc.weight", "fc.bias"];
    assert_eq!(unfilled, [&head[..], &["inputs.weight", "inputs.bias"]].concat());
    assert_eq!(matched.skipped.len(), head.len());
    // Nor do the numbers of another task keep a file from being taken.
    let matched = load_matching(&plain.params, &file(&given), strict).unwrap();
    assert_eq!(matched.skipped.len(), unfilled.len());
    let with_head = Transfer { copy_head: true, ..strict };
    load_matching(&given.params, &file(&given), with_head).unwrap();
    load_matching(&plain.params, &file(&given), with_head).expect_err("a part of its head is left");
}

#[test]
fn strict_refuses_what_is_missing_foreign_or_misshapen() {
    let strict = Transfer { strict: true, ..Transfer::default() };
    let refused = |change: &dyn Fn(&mut Tensors), transfer: Transfer, words: &[&str]| {
        let mut tensors = small_file("");
        change(&mut tensors);
        let (params, file) = (small_net(), archive(tensors));
        let error = load_matching(&params, &file, transfer).expect_err("accepted").to_string();
        assert!(words.iter().all(|word| error.contains(word)) && error.contains("file.pth"), "{error}");
        assert_eq!(value(&params, "conv1.weight"), 0.0, "a refused file changes nothing");
        if transfer.strict && words != ["no tensor of this network"] {
            load_matching(&params, &file, Transfer::default()).expect("not refused without strict");
        }
    };
    refused(&|tensors| drop(tensors.remove("bn1.bias")), strict, &["bn1.bias is missing", "strict = false"]);
    refused(&|tensors| tensors.extend([stored("extra", &[1], 0.0)]), strict, &["extra not in this network"]);
    refused(&|tensors| tensors.extend([stored("bn1.bias", &[3], 0.0)]), strict, &["bn1.bias is missing"]);
    refused(
        &|tensors| tensors.extend([stored("module.bn1.bias", &[2], 8.0)]),
        strict,
        &["module.bn1.bias bn1.bias has other values"],
    );
    let with_head = Transfer { copy_head: true, ..strict };
    refused(&|tensors| tensors.extend([stored("fc.bias", &[4], 0.0)]), with_head, &["fc.bias is missing"]);
    for transfer in [strict, Transfer::default()] {
        let foreign = |tensors: &mut Tensors| *tensors = [stored("other.weight", &[1], 0.0)].into();
        refused(&foreign, transfer, &["no tensor of this network"]);
    }
    // Counters are younger than many files.
    let mut tensors = small_file("");
    tensors.remove("bn1.num_batches_tracked");
    let matched = load_matching(&small_net(), &archive(tensors), strict).unwrap();
    assert_eq!(matched.uncounted, ["bn1.num_batches_tracked"]);
}

#[test]
fn a_backbone_fills_the_encoder_of_a_unet() {
    let device: Arc<dyn Device> = Cpu::new(1 << 30);
    let net = |name| Model::new(name, 2, &device, DType::F32, 1).unwrap();
    let (backbone, unet) = (net("mobilenet_v3_small"), net("unet_mobilenet_v3_small"));
    let file = archive(tensors(&backbone.params).unwrap());
    let matched = load_matching(&unet.params, &file, Transfer::default()).unwrap();
    let encoder = unet.params.iter().filter(|(_, entry)| entry.name.starts_with("encoder.")).count();
    assert_eq!((matched.copied.len(), file.tensors.len() - matched.skipped.len()), (encoder, encoder));
    assert!(matched.skipped.iter().all(|skipped| skipped.name.starts_with("classifier.")), "{:?}", matched.skipped);
}

#[test]
fn the_short_table_names_each_rule_and_the_first_of_each_kind() {
    let mut tensors = small_file("module.");
    tensors.extend((0..30).map(|i| stored(&format!("other{i:02}"), &[1], 0.0)));
    let matched =
        load_matching(&small_net(), &archive(tensors), Transfer { copy_head: true, ..Transfer::default() }).unwrap();
    let lines = matched.short_table();
    assert_eq!(
        lines[0],
        "renamed   6 tensors (without module.), as module.bn1.bias to bn1.bias".replace("bn1.bias", "conv1.weight")
    );
    assert_eq!(lines.len(), 1 + 10 + 1, "{lines:?}");
    assert!(lines[11].starts_with("skipped   and 20 more"), "{lines:?}");
    assert_eq!(matched.table().len(), 36);
}

#[test]
fn stems_are_folded_on_request() {
    let filter = |shape: [usize; 4], values: &[f32]| Stored { shape: shape.into(), values: Values::F32(values.into()) };
    // Two filters of two taps over three channels.
    let rgb = filter([2, 3, 1, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.5, 0.0, 0.25, 0.0, 0.25, 1.0]);
    let gray = fold(&rgb, 1);
    assert_eq!(gray, filter([2, 1, 1, 2], &[9.0, 12.0, 1.0, 1.0]));
    assert_eq!(
        fold(&gray, 3),
        filter(
            [2, 3, 1, 2],
            &[3.0, 4.0, 3.0, 4.0, 3.0, 4.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]
        )
    );
    let mut tensors = small_file("");
    tensors.insert("conv1.weight".into(), filter([2, 1, 1, 1], &[3.0, 6.0]));
    let file = archive(tensors);
    let params = small_net();
    let matched = load_matching(&params, &file, Transfer::default()).unwrap();
    assert!(matched.table().iter().any(|line| line.starts_with("skipped   conv1.weight: is [2, 1, 1, 1] there")));
    let matched = load_matching(&params, &file, Transfer { fold_stem: true, ..Transfer::default() }).unwrap();
    assert_eq!(params.get(params.find("conv1.weight").unwrap()).unwrap(), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    assert_eq!(matched.table()[0], "copied    conv1.weight (folded from 1 to 3 channels)");
}
