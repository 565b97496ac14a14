//! Every task from a table to a report, as a user meets it.

mod common;

use common::{fail, roentgen, stderr, succeed, write_png};
use prost::Message;
use roentgen::{
    report::EpochRecord,
    rng::{Purpose, Rng},
    train::Checkpoint,
    weights::onnx::proto,
};
use std::{fmt::Write, fs, path::Path, process::Command};

const SIDE: usize = 32;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Makes 48 images of a bright square, two raters' masks of each, and `table.csv` with what is true of them.
fn make_squares(folder: &Path) {
    for name in ["images", "masks", "masks2"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let mut table = String::from("file,big,left,marks,side,noise,patient,m0,m1\n");
    for i in 0..48 {
        let mut rng = Rng::new(3, Purpose::Test, 9, i as u32);
        let side = 4 + rng.below(16) as usize;
        let (y, x) = (rng.below((SIDE - side) as u32) as usize, rng.below((SIDE - side) as u32) as usize);
        let inside = |p: usize| (y..y + side).contains(&(p / SIDE)) && (x..x + side).contains(&(p % SIDE));
        let pixels: Vec<u8> =
            (0..SIDE * SIDE).map(|p| (if inside(p) { 190.0 } else { 30.0 } + 40.0 * rng.uniform()) as u8).collect();
        write_png(&folder.join(format!("images/{i:02}.png")), SIDE, &pixels);
        let mask: Vec<u8> = (0..SIDE * SIDE).map(|p| if inside(p) { 255 } else { 0 }).collect();
        write_png(&folder.join(format!("masks/{i:02}.png")), SIDE, &mask);
        // The second rater marks all of it and the first column.
        let wider: Vec<u8> = (0..SIDE * SIDE).map(|p| if inside(p) || p % SIDE == 0 { 1 } else { 0 }).collect();
        write_png(&folder.join(format!("masks2/{i:02}.png")), SIDE, &wider);
        let (big, left) = (side > 11, x + side / 2 < SIDE / 2);
        let marks =
            [(big, "big"), (left, "left")].into_iter().filter(|m| m.0).map(|m| m.1).collect::<Vec<_>>().join("|");
        writeln!(
            table,
            "images/{i:02}.png,{},{},{marks},{side},{:.3},p{},masks/{i:02}.png,masks2/{i:02}.png",
            if big { "yes" } else { "no" },
            u8::from(left),
            rng.uniform(),
            i / 2,
        )
        .unwrap();
    }
    fs::write(folder.join("table.csv"), table).unwrap();
}

/// Trains on the table with these flags, and gives the first line of the predictions and the report.
fn train(folder: &Path, name: &str, flags: &str) -> (String, String) {
    let run = folder.join(name);
    let (table, run_text) = (folder.join("table.csv"), text(&run).to_string());
    let recipe = "finetune --model mobilenet_v3_small --size 32 --epochs 2 --batch 8 --threads 1 --path file --data";
    let args = recipe.split(' ').chain([text(&table), "--out", &run_text]).chain(flags.split(' '));
    succeed(&mut roentgen(args));
    let predictions = fs::read_to_string(run.join("predictions.csv")).unwrap();
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    // Evaluating once more gives the same rows.
    let again = folder.join("again.csv");
    succeed(&mut roentgen(["evaluate", &run_text, "--out", text(&again), "--force"]));
    let test: String = predictions.lines().filter(|l| !l.contains(",validation,")).map(|l| format!("{l}\n")).collect();
    assert_eq!(fs::read_to_string(&again).unwrap(), test);
    (predictions.lines().next().unwrap().into(), report)
}

fn predict(run: &Path, flags: &[&str], image: &Path) -> Command {
    let mut command = roentgen(["predict", text(run), text(image)]);
    command.args(flags);
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

#[test]
fn a_binary_network() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    make_squares(folder);
    let flags = "--task binary --target big --group patient --class-weights balanced";
    let (columns, report) = train(folder, "run", flags);
    assert_eq!(columns, "path,split,group,label,predicted,score_yes");
    for part in ["AUC on test", "ROC", "Reliability", "sensitivity", "val. AUC"] {
        assert!(report.contains(part), "{part}");
    }
    let state = Checkpoint::open(&folder.join("run")).unwrap().state;
    let best = state.best.unwrap();
    assert_eq!(best.thresholds.len(), 1);
    // The accuracy of an epoch is by its own thresholds, as that of the predictions is.
    let history = fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let epoch: EpochRecord = serde_json::from_str(history.lines().nth(best.epoch as usize - 1).unwrap()).unwrap();
    let table = fs::read_to_string(folder.join("run/predictions.csv")).unwrap();
    let rows: Vec<Vec<&str>> =
        table.lines().filter(|row| row.contains(",validation,")).map(|row| row.split(',').collect()).collect();
    let right = rows.iter().filter(|row| row[3] == row[4]).count() as f64 / rows.len() as f64;
    assert!((epoch.validation_accuracy.unwrap() - right).abs() < 1e-9, "{:?}, not {right}", epoch.validation_accuracy);
    let said = stdout(&mut predict(&folder.join("run"), &[], &folder.join("images/00.png")));
    assert!(said.starts_with("path,predicted,score_yes\n"), "{said}");
    let explain = ["--explain", text(folder)];
    succeed(&mut predict(&folder.join("run"), &explain, &folder.join("images/00.png")));
    assert!(folder.join("00.png").exists());
    // The other class can be the positive one.
    let (columns, _) = train(folder, "other", &format!("{flags} --positive no --loss focal"));
    assert_eq!(columns, "path,split,group,label,predicted,score_no");
    let wrong = ["--task", "binary", "--target", "big", "--positive", "maybe", "--path", "file"];
    let table = folder.join("table.csv");
    let all = ["finetune", "--data", text(&table), "--out", text(folder)].into_iter().chain(wrong);
    fail(&mut roentgen(all), 1, &["maybe", "no, yes"]);
}

#[test]
fn a_multi_label_network() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    make_squares(folder);
    let (columns, report) = train(folder, "joined", "--task multi-label --target marks");
    let expected = "path,split,group,label_big,predicted_big,score_big,label_left,predicted_left,score_left";
    assert_eq!(columns, expected);
    assert!(report.contains("mean over labels"));
    succeed(&mut predict(&folder.join("joined"), &["--explain", text(folder)], &folder.join("images/01.png")));
    assert!(folder.join("01.png").exists());
    let (columns, _) = train(folder, "weighted", "--task multi-label --target marks --class-weights balanced");
    assert_eq!(columns, expected);
}

#[test]
fn a_regression_with_a_number_beside_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    make_squares(folder);
    let (columns, report) =
        train(folder, "run", "--task regression --target side,noise --inputs left --loss huber --group patient");
    assert_eq!(columns, "path,split,group,side,predicted_side,noise,predicted_noise");
    for part in ["Mean absolute error of side on test", "Bland–Altman", "val. MAE"] {
        assert!(report.contains(part), "{part}");
    }
    let run = folder.join("run");
    let state = Checkpoint::open(&run).unwrap().state;
    assert_eq!((state.targets.mean.len(), state.inputs.mean.len()), (2, 1));
    assert!((4.0..20.0).contains(&state.targets.mean[0]), "{:?}", state.targets);
    let image = folder.join("images/00.png");
    let explain = ["--inputs", "1", "--explain", text(folder)];
    fail(&mut predict(&run, &explain, &image), 1, &["no classes to explain in the task regression"]);
    fail(&mut predict(&run, &[], &image), 1, &["1 numbers beside an image, not 0", "--inputs with left (1 or 0"]);
    fail(&mut predict(&run, &["--inputs", "nan"], &image), 2, &["no number"]);
    let [zero, one] = ["0", "1"].map(|left| stdout(&mut predict(&run, &["--inputs", left], &image)));
    assert!(zero.starts_with("path,predicted_side,predicted_noise\n"), "{zero}");
    assert_ne!(zero, one, "the number beside the image changes nothing");
    // A table says the number of each image, and need not have labels.
    let list = folder.join("list.csv");
    fs::write(&list, "left,file\nno,images/00.png\nyes,images/01.png\n").unwrap();
    let listed = stdout(&mut predict(&run, &[], &list));
    let row = |table: &str, i| table.lines().nth(i).unwrap().split_once(',').map(|(_, cells)| cells.to_string());
    assert!(listed.lines().nth(2).unwrap().starts_with("images/01.png,"), "{listed}");
    let second = stdout(&mut predict(&run, &["--inputs", "1"], &folder.join("images/01.png")));
    assert_eq!([row(&listed, 1), row(&listed, 2)], [row(&zero, 1), row(&second, 1)]);
    fail(&mut predict(&run, &["--inputs", "1"], &list), 1, &["leave --inputs out"]);
    // An exported network takes the number too, and says how all numbers are scaled.
    let out = folder.join("net.onnx");
    succeed(&mut roentgen(["weights", "export", text(&run), text(&out)]));
    let file = proto::Model::decode(&*fs::read(&out).unwrap()).unwrap();
    let note = |key: &str| file.metadata_props.iter().find(|entry| entry.key == key).unwrap().value.clone();
    assert_eq!(note("inputs"), r#"["left"]"#);
    for (key, values) in [
        ("target_mean", &state.targets.mean),
        ("target_std", &state.targets.std),
        ("input_mean", &state.inputs.mean),
        ("input_std", &state.inputs.std),
    ] {
        assert_eq!(note(key), serde_json::to_string(values).unwrap());
    }
    let inputs: Vec<String> = file.graph.unwrap().input.into_iter().map(|input| input.name).collect();
    assert_eq!(inputs, ["images", "inputs"]);
    // Interrupted or not, a regression goes on.
    let resumed = succeed(&mut roentgen(["finetune", "--resume", text(&run)]));
    assert!(stderr(&resumed).contains("going on after epoch 2"));
}

#[test]
fn a_segmenting_network() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    make_squares(folder);
    let unet = "--task segmentation --model unet_mobilenet_v3_small";
    let (columns, report) = train(folder, "run", &format!("{unet} --masks square=m0,m1 --agree 2 --loss dice-missed"));
    assert_eq!(columns, "path,split,group,pixels_square,dice_square,iou_square,hd95_square,predicted_square");
    for part in ["Dice on test", "HD95", "val. Dice", "outline"] {
        assert!(report.contains(part), "{part}");
    }
    // Where both raters agree is the first one's mask.
    let predictions = fs::read_to_string(folder.join("run/predictions.csv")).unwrap();
    let row: Vec<&str> = predictions.lines().nth(1).unwrap().split(',').collect();
    let table = fs::read_to_string(folder.join("table.csv")).unwrap();
    let side: u32 = table.lines().find(|l| l.starts_with(row[0])).unwrap().split(',').nth(4).unwrap().parse().unwrap();
    assert_eq!(row[3], (side * side).to_string(), "{row:?}");
    // Predicted masks have the size of their images and are marked where the table says.
    let (images, masks) = (folder.join("more"), folder.join("drawn"));
    fs::create_dir(&images).unwrap();
    write_png(&images.join("large.png"), 50, &[90; 2500]);
    let said = stdout(&mut predict(&folder.join("run"), &["--masks", text(&masks)], &images));
    assert!(said.starts_with("path,predicted_square\n"), "{said}");
    let mask = roentgen::data::decode(&fs::read(masks.join("large.png")).unwrap(), "mask").unwrap();
    assert_eq!((mask.width, mask.height), (50, 50));
    // The table counts the pixels of that size.
    let roentgen::data::Pixels::U8(pixels) = mask.pixels else { panic!("8 bit") };
    let marked = pixels.iter().filter(|&&pixel| pixel == 255).count();
    assert_eq!(said.lines().nth(1).unwrap().rsplit(',').next(), Some(&*marked.to_string()));
    assert!(marked > 0, "nothing is marked, so nothing is tested");
    // Two structures; pairs in folders; a backbone that draws nothing.
    let (columns, _) = train(folder, "two", &format!("{unet} --masks a=m0 --masks b=m1 --epochs 1"));
    assert!(columns.contains("dice_a") && columns.ends_with("predicted_b"), "{columns}");
    let out = folder.join("none");
    let pairs = ["finetune", "--data", text(folder), "--out", text(&out), "--task", "segmentation"];
    fail(&mut roentgen(pairs), 1, &["resnet18 draws no masks", "unet_resnet18"]);
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    make_squares(folder);
    let table = folder.join("table.csv");
    let refused = |flags: &str, words: &[&str]| {
        let args =
            ["finetune", "--data", text(&table), "--out", text(&folder.join("no")), "--path", "file"].map(String::from);
        let args: Vec<String> = args.into_iter().chain(flags.split(' ').map(String::from)).collect();
        fail(&mut roentgen(args.iter().map(String::as_str)), 1, words);
    };
    refused("--task regression --target side --loss bce", &["loss cannot be bce", "mse, l1, huber"]);
    refused("--task regression --target side --monitor auc", &["monitor cannot be auc", "mae, loss"]);
    refused("--task regression --target side --label-smoothing 0.1", &["label_smoothing", "regression"]);
    refused("--task regression --target marks", &["line 2", "is no number"]);
    refused("--task regression --target age", &["no column \"age\""]);
    refused("--task binary --target side", &["a binary task two"]);
    refused("--task multi-label --target left", &["says yes or no", "--task binary"]);
    refused("--target side,left", &["an image has one class", "--task multi-label"]);
    refused("--task regression --target side,side", &["side is named twice"]);
    refused("--task regression --target side --inputs left,left", &["left is named twice"]);
    refused(
        "--task segmentation --model unet_resnet18 --masks m0 --inputs left",
        &["do not go with the task segmentation", "--inputs"],
    );
    refused("--task multi-label --target side,left", &["not all 0 or 1"]);
    refused("--task segmentation --model unet_resnet18", &["which columns", "--masks"]);
    refused("--task regression --target side --model unet_resnet18", &["unet_resnet18 is for masks"]);
    refused("--task segmentation --model unet_resnet18 --masks m0,m1 --agree 3", &["3 of 2 raters"]);
    refused("--task segmentation --model unet_resnet18 --masks m0 --masks m1", &["two structures are called mask"]);
    refused("--task regression --target side --inputs side", &["side is the target and an input too"]);
    let mix = folder.join("mix.toml");
    fs::write(&mix, "[augment]\nmixup = 0.2\n").unwrap();
    let mixed = format!("--task segmentation --model unet_resnet18 --masks m0 --config {}", text(&mix));
    refused(&mixed, &["mixup and cutmix do not go with the task segmentation"]);
    refused("--task binary --target big --group team", &["no column \"team\""]);
    let out = folder.join("x");
    let args = ["finetune", "--data", text(folder), "--task", "regression", "--out", text(&out)];
    fail(&mut roentgen(args), 1, &["cannot say the numbers", "a CSV"]);
    fail(&mut roentgen(["finetune", "--task", "binary", "--out", text(&out)]), 1, &["sample", "--data"]);
}
