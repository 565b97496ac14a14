//! The program as a user meets it: what it writes, and that bad input gets one clear error.

mod common;

use common::{fail, make_images, quick, roentgen, stderr, succeed};
use roentgen::train::Config;
use std::{fs, io::BufReader, path::Path, process::Stdio};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_run_is_trained_evaluated_predicted_and_inspected() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run, table) = (dir.path().join("data"), dir.path().join("run"), dir.path().join("out.csv"));
    make_images(&data, &["left", "right"], 20);
    let output = succeed(&mut roentgen(quick(text(&data), text(&run))));
    assert!(String::from_utf8_lossy(&output.stdout).contains("macro F1"), "no metrics");
    for name in ["config.toml", "manifest.csv", "metrics.jsonl", "best.safetensors", "last.safetensors", "report.html"]
    {
        assert!(run.join(name).metadata().unwrap().len() > 0, "{name}");
    }
    assert_eq!(fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().count(), 3);
    let predictions = fs::read_to_string(run.join("predictions.csv")).unwrap();
    assert!(predictions.starts_with("path,split,label,predicted,score_left,score_right\nleft/"), "{predictions}");

    // The test rows of the run's own table, once more.
    succeed(&mut roentgen(["evaluate", text(&run), "--out", text(&table)]));
    let tested: String =
        predictions.lines().filter(|l| !l.contains(",validation,")).map(|l| format!("{l}\n")).collect();
    assert_eq!(fs::read_to_string(&table).unwrap(), tested);

    // The same images by name have the same scores.
    let (name, scores) = tested.lines().nth(1).map(|l| (l.split(',').next().unwrap(), l.split(',').skip(3))).unwrap();
    let image = data.join(name);
    let output = succeed(&mut roentgen(["predict", text(&run.join("best.safetensors")), text(&image)]));
    let line = String::from_utf8_lossy(&output.stdout).lines().nth(1).unwrap().to_string();
    assert_eq!(line, format!("{},{}", text(&image), scores.collect::<Vec<_>>().join(",")));
    let output = succeed(&mut roentgen(["predict", text(&run), text(&data)]));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 41);
    // Both show the network mirror images too if asked to.
    succeed(&mut roentgen(["evaluate", text(&run), "--mirrors", "--out", text(&table), "--force"]));
    let output = succeed(&mut roentgen(["predict", text(&run), text(&image), "--mirrors"]));
    let mirrored = String::from_utf8_lossy(&output.stdout).lines().nth(1).unwrap().to_string();
    let scores = mirrored.split(',').skip(1).collect::<Vec<_>>().join(",");
    assert!(fs::read_to_string(&table).unwrap().lines().nth(1).unwrap().ends_with(&scores), "{scores}");

    // Where it sees what it predicts: a picture for each image, in colour.
    let (left, explained) = (data.join("left"), dir.path().join("explained"));
    let again = succeed(&mut roentgen(["predict", text(&run), text(&left), "--explain", text(&explained)]));
    assert_eq!(again.stdout, succeed(&mut roentgen(["predict", text(&run), text(&left)])).stdout);
    assert_eq!(fs::read_dir(&explained).unwrap().count(), 20);
    let picture = png::Decoder::new(BufReader::new(fs::File::open(explained.join("000.png")).unwrap()));
    assert_eq!(picture.read_info().unwrap().output_color_type().0, png::ColorType::Rgb);
    // Folders below a given one are kept; of two given ones they may not be alike, nor may an image be replaced.
    succeed(&mut roentgen(["predict", text(&run), text(&data), "--explain", text(&explained)]));
    assert!(explained.join("left/000.png").is_file() && explained.join("right/019.png").is_file());
    let (right, none) = (data.join("right"), dir.path().join("none"));
    let both = ["predict", text(&run), text(&left), text(&right), "--explain", text(&none)];
    fail(&mut roentgen(both), 1, &["left/000.png and", "right/000.png would both be written to"]);
    assert!(!none.exists());
    let onto = ["predict", text(&run), text(&data), "--explain", text(&data)];
    fail(&mut roentgen(onto), 1, &["left/000.png is one of the images"]);

    let output = succeed(&mut roentgen(["inspect", text(&run)]));
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        listed.contains("classifier.3.weight")
            && listed.contains("1519906 parameters")
            && listed.contains("left, right"),
        "{listed}"
    );

    // What is there is not replaced unasked, and where nothing can be written nothing is computed.
    let before = fs::read(&table).unwrap();
    let (evaluate, predict) = (["evaluate", text(&run)], ["predict", text(&run), text(&image)]);
    for command in [&evaluate[..], &predict] {
        let to = |out| roentgen(command.iter().copied().chain(["--out", out]));
        fail(&mut to(text(&table)), 1, &["out.csv is already there", "--force"]);
        let output = to("/proc/nowhere/out.csv").output().unwrap();
        assert!(!output.status.success() && stderr(&output).contains("/proc/nowhere/out.csv"));
        assert!(!stderr(&output).contains("evaluating") && output.stdout.is_empty(), "{}", stderr(&output));
    }
    assert_eq!(fs::read(&table).unwrap(), before);
    succeed(&mut roentgen(predict.into_iter().chain(["--out", text(&table), "--force"])));
    assert_ne!(fs::read(&table).unwrap(), before);
    fail(&mut roentgen(["predict", text(&data), text(&image)]), 1, &["data is no run: it holds no best.safetensors"]);
    // Interrupted in its first epoch.
    let early = dir.path().join("early");
    fs::create_dir(&early).unwrap();
    fs::copy(run.join("last.safetensors"), early.join("last.safetensors")).unwrap();
    for command in ["evaluate", "inspect"] {
        fail(&mut roentgen([command, text(&early)]), 1, &["before its first epoch ends", "--resume"]);
    }

    // Classes are matched by name, and unknown ones refused.
    let other = dir.path().join("other");
    make_images(&other, &["left", "strange"], 2);
    fail(&mut roentgen(["evaluate", text(&run), "--data", text(&other)]), 1, &["strange"]);

    // A run is not overwritten unasked.
    fail(&mut roentgen(quick(text(&data), text(&run))), 1, &["already holds a run", "--force"]);
    // An unusable dataset leaves the old run alone even then.
    let args = quick("/nowhere", text(&run)).into_iter().chain(["--force"]);
    fail(&mut roentgen(args), 1, &["/nowhere"]);
    assert!(run.join("best.safetensors").exists());
}

#[test]
fn runs_that_start_together_have_folders_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    make_images(&dir.path().join("data"), &["left", "right"], 8);
    let begin = |seed| {
        let args = "finetune --data data --model mobilenet_v3_small --size 32 --epochs 1 --batch 8 --threads 1 --seed";
        let mut command = roentgen(args.split(' ').chain([seed]));
        command.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for mut run in ["1", "2", "3"].map(begin) {
        assert!(run.wait().unwrap().success());
    }
    let seed = |n: usize| {
        let recipe = dir.path().join(format!("runs/mobilenet_v3_small-{n}/config.toml"));
        fs::read_to_string(recipe).unwrap().lines().find(|line| line.starts_with("seed")).unwrap().to_string()
    };
    let mut seeds = [1, 2, 3].map(seed);
    seeds.sort();
    assert_eq!(seeds, ["seed = 1", "seed = 2", "seed = 3"]);
}

#[test]
fn data_that_grew_or_moved_keep_their_splits() {
    let dir = tempfile::tempdir().unwrap();
    let [data, run, moved, other, out] = ["data", "run", "moved", "other", "out.csv"].map(|name| dir.path().join(name));
    make_images(&data, &["left", "right"], 16);
    succeed(&mut roentgen(quick(text(&data), text(&run)).into_iter().chain(["--epochs", "1"])));
    let evaluate = |more: &[&str]| {
        let mut command = roentgen(["evaluate", text(&run), "--out", text(&out), "--force"]);
        command.args(more);
        command
    };
    let table = |more: &[&str]| {
        let said = stderr(&succeed(&mut evaluate(more)));
        (fs::read_to_string(&out).unwrap(), said)
    };
    let (own, _) = table(&[]);
    // The same images by other names are told from new ones.
    for class in ["left", "right"] {
        fs::create_dir_all(other.join(class)).unwrap();
        for i in 0..16 {
            let [from, to] = ["", "copy "].map(|prefix| format!("{class}/{prefix}{i:03}.png"));
            fs::copy(data.join(from), other.join(to)).unwrap();
        }
    }
    let trained = fs::read_to_string(run.join("manifest.csv")).unwrap().matches(",train,").count();
    assert!((1..32).contains(&trained));
    let (_, said) = table(&["--data", text(&other)]);
    assert!(said.contains(&format!("warning: {trained} of 32 images were trained on (say left/copy 0")), "{said}");
    // New images are left out, of new classes too.
    make_images(&data, &["left", "right", "third"], 17);
    let (grown, said) = table(&[]);
    assert_eq!(grown, own);
    assert!(said.contains("images that the run does not list and were left out: 19, say left/016.png"), "{said}");
    fs::remove_dir_all(data.join("third")).unwrap();
    for class in ["left", "right"] {
        fs::remove_file(data.join(class).join("016.png")).unwrap();
    }
    // Elsewhere they are still the run's own.
    fs::rename(&data, &moved).unwrap();
    let words = ["cannot open the dataset", "give --data, if it has moved"];
    fail(&mut evaluate(&[]), 1, &words);
    fail(&mut roentgen(["finetune", "--resume", text(&run)]), 1, &words);
    let (there, said) = table(&["--data", text(&moved)]);
    assert_eq!(there, own);
    assert!(said.contains("the run's own data") && !said.contains("were trained on"), "{said}");
}

/// Class folders of DICOM, half of it without a suffix: one template with other pixels in each file.
fn make_scans(folder: &Path, classes: &[&str], per_class: usize) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scans");
    let template = fs::read(fixtures.join("s16_ct.dcm")).unwrap();
    for (c, class) in classes.iter().enumerate() {
        fs::create_dir_all(folder.join(class)).unwrap();
        for i in 0..per_class {
            let mut bytes = template.clone();
            let pixels = bytes.len() - 2 * 9 * 11;
            for (p, pair) in bytes[pixels..].chunks_exact_mut(2).enumerate() {
                let value = if (p % 9 < 4) == (c == 0) { 1200 } else { 900 } + (i * 7 + p * 3) as i16 % 50;
                pair.copy_from_slice(&value.to_le_bytes());
            }
            let suffix = if i % 2 == 0 { ".dcm" } else { "" };
            fs::write(folder.join(class).join(format!("{i}{suffix}")), bytes).unwrap();
        }
    }
}

#[test]
fn scans_are_surveyed_trained_on_and_predicted_by_the_same_rule() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run, cache) = (dir.path().join("data"), dir.path().join("run"), dir.path().join("cache"));
    make_scans(&data, &["left", "right"], 20);
    fs::copy(data.join("left/0.dcm"), data.join("right/copy.dcm")).unwrap();
    fs::write(data.join("left/broken.dcm"), "text").unwrap();
    fs::write(data.join("left/notes.txt"), "text").unwrap();
    let output = succeed(&mut roentgen(["doctor", "--data", text(&data)]));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "41 in 2 classes, 1 more cannot be read; 1 other files passed over",
        "DICOM, uncompressed (41)",
        "CT (41)",
        "9 x 11 (41)",
        "16 bit (41)",
        "left: 20 (48.8 %)",
        "broken.dcm holds text",
        "1 pictures appear under more than one label",
        "on one core at 224 px",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    fail(&mut roentgen(["doctor", "--data", "/nowhere"]), 1, &["/nowhere"]);

    let rule = ["--intensity", "window:150,400", "--skip-bad", "--cache", text(&cache)];
    succeed(&mut roentgen(quick(text(&data), text(&run)).into_iter().chain(rule)));
    assert!(fs::read_to_string(run.join("config.toml")).unwrap().contains("intensity = \"window:150,400\""));
    assert!(fs::read_dir(&cache).unwrap().count() > 0, "nothing is cached");
    let volume = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scans/nifti_i2.nii#2");
    let image = data.join("right/3");
    let output = succeed(&mut roentgen(["predict", text(&run), text(&volume), text(&image), "--cache", text(&cache)]));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(table.lines().count(), 3, "{table}");
    // A score depends on the rule: the run's own table has the one that predict gives.
    let scores = |line: &str| line.split(',').rev().take(2).map(String::from).collect::<Vec<_>>();
    let own = fs::read_to_string(run.join("predictions.csv")).unwrap();
    let known = own.lines().find(|line| line.starts_with("right/") && !line.contains("copy")).unwrap();
    let path = data.join(known.split(',').next().unwrap());
    let output = succeed(&mut roentgen(["predict", text(&run), text(&path)]));
    assert_eq!(scores(String::from_utf8_lossy(&output.stdout).lines().nth(1).unwrap()), scores(known));
    fail(&mut roentgen(["predict", text(&run), text(&data.join("left/broken.dcm"))]), 1, &["holds text"]);
    fail(&mut roentgen(["finetune", "--intensity", "bright"]), 2, &["there is no intensity", "percentile"]);
}

#[test]
fn images_of_one_channel_are_trained_on_from_folded_weights() {
    let dir = tempfile::tempdir().unwrap();
    let [data, color, gray, onnx] = ["data", "color", "gray", "gray.onnx"].map(|name| dir.path().join(name));
    make_images(&data, &["left", "right"], 10);
    let begin = |run: &Path, more: &[&str]| {
        let args: Vec<String> =
            quick(text(&data), text(run)).into_iter().chain(more.iter().copied()).map(String::from).collect();
        stderr(&succeed(&mut roentgen(args.iter().map(String::as_str))))
    };
    begin(&color, &["--epochs", "1"]);
    let said = begin(&gray, &["--epochs", "1", "--channels", "1", "--weights", text(&color), "--fold-stem"]);
    assert!(said.contains("(folded from 3 to 1 channels)"), "{said}");
    let output = succeed(&mut roentgen(["inspect", text(&gray)]));
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(listed.contains("16 x 1 x 3 x 3"), "{listed}");
    // torchvision has no such network.
    let card = |run: &Path| fs::read_to_string(run.join("model-card.md")).unwrap();
    assert!(card(&color).contains("torchvision.models") && !card(&gray).contains("torchvision.models"));
    let image = data.join("left/003.png");
    let output = succeed(&mut roentgen(["predict", text(&gray), text(&image)]));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
    succeed(&mut roentgen(["weights", "export", text(&gray), text(&onnx)]));
}

#[test]
fn without_data_the_sample_is_used_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["finetune", "--model", "mobilenet_v3_small", "--size", "32", "--epochs", "1", "--out"];
    let said = stderr(&succeed(&mut roentgen(args.into_iter().chain([text(dir.path())]))));
    assert!(said.contains("no --data given") && said.contains("xray-breast"), "{said}");
}

#[test]
fn inspect_says_what_it_knows() {
    fail(&mut roentgen(["inspect", "resnet81"]), 1, &["resnet81", "resnet18"]);
}

#[test]
fn bench_times_u_nets_and_single_images() {
    let unet = "bench --model unet_mobilenet_v3_small --size 32 --batch 2 --steps 1 --warmup 0 --json";
    assert!(String::from_utf8_lossy(&succeed(&mut roentgen(unet.split(' '))).stdout).contains("dice_bwd"));
    let small = "bench --model inception_v3 --size 32";
    fail(&mut roentgen(small.split(' ')), 1, &["inception_v3 cannot take images of 32 px", "--size 75"]);
    let one = "bench --model mobilenet_v3_small --size 32 --batch 1 --steps 1 --warmup 0 --forward";
    assert!(String::from_utf8_lossy(&succeed(&mut roentgen(one.split(' '))).stdout).contains("1 x 32 px"));
}

#[test]
fn bench_ends_with_json() {
    let args = "bench --model mobilenet_v3_small --size 32 --batch 2 --steps 2 --warmup 1 --json";
    let output = succeed(&mut roentgen(args.split(' ')));
    let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap().to_string();
    let json: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(json["ms_per_step"].as_array().unwrap().len(), 2);
    assert_eq!(json["loss"].as_array().unwrap().len(), 2);
    assert!(json["images_per_second"].as_f64().unwrap() > 0.0);
    assert!((1..json["peak_mem_mb"].as_u64().unwrap()).contains(&json["device_peak_mb"].as_u64().unwrap()));
    // More launches than kernels, and each of these takes some time.
    let profile = json["profile"].as_array().unwrap();
    let launches: u64 = profile.iter().map(|group| group["launches"].as_u64().unwrap()).sum();
    assert!(json["kernels"].as_u64() == Some(launches) && launches > profile.len() as u64);
    assert!(profile.iter().all(|group| group["ms"].as_f64().unwrap() > 0.0 && group["bytes"].as_u64().unwrap() > 0));
    let multiply = |name| profile.iter().any(|group| group["kernel"] == name && group["macs"].as_u64().unwrap() > 0);
    assert!(multiply("conv2d_wgrad") && !multiply("add"));
}

#[test]
fn bad_data_gets_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let refused = |data: &Path, words: &[&str]| {
        fail(&mut roentgen(quick(text(data), text(&out))), 1, words);
        assert!(!out.join("config.toml").exists(), "a refused run leaves nothing behind");
    };
    let fresh = |name: &str| {
        let folder = dir.path().join(name);
        make_images(&folder, &["a", "b"], 4);
        folder
    };
    refused(&dir.path().join("missing"), &["missing"]);

    let folder = dir.path().join("pairs");
    make_images(&folder, &["images", "masks"], 4);
    refused(&folder, &["images and their masks", "--task segmentation"]);

    let folder = fresh("empty class");
    fs::create_dir(folder.join("c")).unwrap();
    refused(&folder, &["empty class/c", "no images"]);

    let folder = fresh("one class");
    fs::remove_dir_all(folder.join("b")).unwrap();
    refused(&folder, &["only one class"]);

    let folder = fresh("truncated");
    let jpeg: &[u8] = &[0xff, 0xd8, 0xff, 0xe0, 0, 16, b'J', b'F', b'I', b'F', 0, 1, 1, 0, 0, 1, 0, 1, 0, 0];
    fs::write(folder.join("a/cut.jpg"), jpeg).unwrap();
    refused(&folder, &["a/cut.jpg", "truncated", "--skip-bad"]);

    let folder = fresh("text");
    fs::write(folder.join("a/words.png"), "not an image").unwrap();
    refused(&folder, &["a/words.png", "text"]);

    let folder = fresh("tables");
    let table = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    refused(&table("columns.csv", "file,label\na/000.png,a\n"), &["columns.csv", "path"]);
    refused(&table("nothing.csv", ""), &["nothing.csv", "it is empty"]);
    refused(&table("tested.csv", "path,label,split\na/000.png,a,test\nb/000.png,b,test\n"), &["left to train on"]);
    refused(&table("paths.csv", "path,label\na/000.png,a\nb/999.png,b\n"), &["paths.csv", "line 3", "b/999.png"]);
}

#[test]
fn a_folder_may_hold_its_own_runs() {
    let dir = tempfile::tempdir().unwrap();
    make_images(dir.path(), &["a", "b"], 8);
    let run = |more: &str| {
        let args = "finetune --data . --model mobilenet_v3_small --size 32 --batch 8 --epochs 1 --threads 1";
        let mut command = roentgen(args.split(' ').chain(more.split(' ')));
        command.current_dir(dir.path());
        command
    };
    fail(&mut run("--target finding"), 1, &["cannot say the other targets"]);
    assert!(!dir.path().join("runs").exists(), "what cannot begin leaves nothing behind");
    for out in ["", "--out a/run", "--seed 2"] {
        let out = if out.is_empty() { "--seed 1" } else { out };
        assert!(stderr(&succeed(&mut run(out))).contains("images"), "{out}");
    }
    let manifest = |run: &str| fs::read_to_string(dir.path().join(run).join("manifest.csv")).unwrap();
    assert_eq!(manifest("runs/mobilenet_v3_small-1").lines().count(), 17);
    assert_eq!(manifest("runs/mobilenet_v3_small-2").lines().count(), 17);
}

#[test]
fn every_key_of_a_recipe_is_listed() {
    let optional = "weights = 'w'\nsteps = 1\nsplit_seed = 1\nprecision = 'f32'\nclip_norm = 1.0\nema = 0.9\nmin_images = 1\n\
        data = 'd'\nlayout = 'luna16'\nloss = 'bce'\nmonitor = 'loss'\n[columns]\nframe = ''\nwhere = ['a=b']\npositive = 'p'";
    let config: Config = toml::from_str(optional).unwrap();
    let page = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap();
    let (recipe, augment) = (page("recipe.md"), page("data.md"));
    let table = toml::Table::try_from(&config).unwrap();
    for (key, value) in &table {
        let inner: Vec<&String> = value.as_table().into_iter().flat_map(|inner| inner.keys()).collect();
        let listed = |page: &str, key: &str| page.contains(&format!("`{key}`"));
        match key.as_str() {
            "augment" => inner.iter().for_each(|key| assert!(listed(&augment, key), "{key} is not in data.md")),
            "columns" | "split" => {
                inner.iter().for_each(|key| assert!(listed(&recipe, key), "{key} is not in recipe.md"))
            }
            key => assert!(listed(&recipe, key), "{key} is not in recipe.md"),
        }
    }
    assert!(table.len() > 35, "{table:?}");
}

#[test]
fn bad_images_are_left_out_on_request_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("run"));
    make_images(&data, &["a", "b"], 12);
    fs::write(data.join("a/words.png"), "not an image").unwrap();
    let args = quick(text(&data), text(&out)).into_iter().chain(["--skip-bad", "--epochs", "1"]);
    let output = succeed(&mut roentgen(args));
    assert!(stderr(&output).contains("words.png"), "{}", stderr(&output));
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(
        report.contains("a/words.png") && report.contains("images that cannot be read and were left out: 1"),
        "not in the report"
    );
    for class in ["a", "b"] {
        fs::read_dir(data.join(class)).unwrap().for_each(|image| fs::write(image.unwrap().path(), "words").unwrap());
    }
    let args = quick(text(&data), text(&out)).into_iter().chain(["--skip-bad", "--force"]);
    fail(&mut roentgen(args), 1, &["none of the 25 images", "can be read", "a/000.png holds text"]);
}

#[test]
fn bad_settings_get_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out, file) = (dir.path().join("data"), dir.path().join("run"), dir.path().join("recipe.toml"));
    make_images(&data, &["a", "b"], 8);
    let with = |more: &[&str], code, words: &[&str]| {
        fail(&mut roentgen(quick(text(&data), text(&out)).into_iter().chain(more.iter().copied())), code, words);
    };
    with(&["--model", "vgg99"], 1, &["vgg99", "resnet18"]);
    with(&["--optimizer", "adamax"], 2, &["adamax", "sgd"]);
    with(&["--lr", "nan"], 1, &["lr"]);
    with(&["--validation", "0.6", "--test", "0.5"], 1, &["0.6", "0.5"]);
    fail(&mut roentgen(["doctor", "--data", text(&data), "--size", "0"]), 1, &["size cannot be 0", "1 to 4096"]);
    with(&["--channels", "2"], 1, &["channels cannot be 2", "1 or 3"]);
    with(&["--channels", "1", "--normalise", "imagenet"], 1, &["one channel", "--normalise none"]);
    with(&["--size", "8"], 1, &["8 px", "--size 32"]);
    with(&["--freeze", "layer9.*"], 1, &["layer9.*", "inspect"]);
    with(&["--freeze", "*"], 1, &["everything is frozen"]);
    with(&["--clip-norm", "0"], 1, &["clip_norm cannot be 0"]);
    with(&["--ema", "1"], 1, &["ema cannot be 1"]);
    with(&["--steps", "99999999999"], 1, &["steps cannot be 99999999999", "--epochs"]);
    with(&["--strict"], 1, &["--strict is about weights"]);
    with(&["--group", "patient"], 1, &["cannot say the group of an image", "CSV"]);
    with(&["--warmup", "1"], 1, &["warmup", "one-cycle"]);
    with(&["--weights", "/nowhere.safetensors"], 1, &["/nowhere.safetensors"]);
    let config = ["--config", text(&file)];
    fs::write(&file, "epochs = 2\nlearning_rate = 1.0\n").unwrap();
    with(&config, 1, &["recipe.toml", "learning_rate"]);
    fs::write(&file, "epochs = \"two\"\n").unwrap();
    with(&config, 1, &["recipe.toml", "epochs"]);
    fs::write(&file, "[augment]\nspin = 3\n").unwrap();
    with(&config, 1, &["recipe.toml", "spin"]);
    assert!(!out.exists(), "a refused run leaves nothing behind");
    let resumed = ["finetune", "--resume", text(&out), "--no-augment"];
    fail(&mut roentgen(resumed), 1, &["--augment or --no-augment cannot be changed"]);
    with(&["--lr", "1e38", "--optimizer", "sgd", "--schedule", "constant"], 1, &["diverged", "step", "--lr"]);
}

#[test]
fn files_are_overridden_by_flags_and_the_result_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out, file) = (dir.path().join("data"), dir.path().join("run"), dir.path().join("recipe.toml"));
    make_images(&data, &["a", "b"], 8);
    fs::write(&file, "epochs = 7\nlabel_smoothing = 0.1\nseed = 3\n[augment]\nflip = 0.0\n").unwrap();
    let args = quick(text(&data), text(&out)).into_iter().chain(["--config", text(&file), "--epochs", "1"]);
    succeed(&mut roentgen(args));
    let saved: toml::Table = toml::from_str(&fs::read_to_string(out.join("config.toml")).unwrap()).unwrap();
    assert_eq!(saved["epochs"].as_integer(), Some(1));
    assert_eq!(saved["seed"].as_integer(), Some(3));
    assert_eq!(saved["label_smoothing"].as_float(), Some(0.1));
    assert_eq!(saved["augment"]["flip"].as_float(), Some(0.0));
    assert_eq!(saved["augment"]["rotation"].as_float(), Some(15.0));
    // The saved copy is a recipe: it gives the same weights.
    let again = dir.path().join("again");
    let config = out.join("config.toml");
    succeed(&mut roentgen(["finetune", "--config", text(&config), "--out", text(&again)]));
    assert_eq!(fs::read(out.join("best.safetensors")).unwrap(), fs::read(again.join("best.safetensors")).unwrap());
}

#[test]
fn a_place_that_cannot_be_written_to_gets_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    make_images(&data, &["a", "b"], 8);
    // Nobody, root included, can make a folder below a file or in /proc.
    let file = dir.path().join("a file");
    fs::write(&file, "").unwrap();
    fail(&mut roentgen(quick(text(&data), text(&file.join("run")))), 1, &["a file/run"]);
    if cfg!(target_os = "linux") {
        fail(&mut roentgen(quick(text(&data), "/proc/run")), 1, &["/proc/run"]);
    }
}
