//! The report of a study: the right numbers, honest sentences, well-formed whatever is missing, and safe with any text.

use roentgen::{
    report::{
        Picture, WorstCase,
        study::{Compared, Cost, Explained, Part, Row, RunFigures, Setting, StudyReport, guidelines, render},
    },
    statistics::Interval,
};

#[path = "common/html.rs"]
mod html;
use html::{assert_well_formed, text};

const ATTACK: &str = "<script>alert(\"x\")</script> & 'co'";

fn run(seed: u64, value: f64, curve: &[f64]) -> RunFigures {
    let curve = curve.iter().copied().map(Some).collect();
    RunFigures { seed, value: Some(value), curve, cost: Cost { seconds: 90.0 + value, joules: None } }
}

/// Arm `of` against the baseline with an interval of 0.04 to either side.
fn compared(of: usize, difference: f64, adjusted: f64) -> Compared {
    let interval = Interval { low: difference - 0.04, high: difference + 0.04 };
    Compared { of, against: 0, seeds: 3, difference, interval, p: adjusted / 2.0, adjusted }
}

fn picture() -> Picture {
    Picture { width: 2, height: 1, pixels: vec![0, 100] }
}

/// What an arm sees in the picture.
fn seen(name: &str) -> WorstCase {
    WorstCase { name: name.into(), lines: vec![], picture: picture().overlaid(&[0.0, 0.5]) }
}

/// Random weights against pretrained ones, which are far ahead with 25 % of the images and at first, and little with all of them.
fn study() -> StudyReport {
    let row = |fraction, random: [f64; 3], pretrained: [f64; 3], compared| Row {
        fraction,
        test_images: 120,
        rates: vec![Some(0.01), Some(0.001)],
        arms: [(random, 0.0), (pretrained, 0.2)]
            .map(|(values, early)| {
                let curve = |v: f64| [0.3 + early, 0.5 + early, v];
                (1..).zip(values).map(|(seed, v)| run(seed, v, &curve(v))).collect()
            })
            .into(),
        comparisons: vec![compared],
    };
    StudyReport {
        question: "Does pretraining help?".into(),
        design: vec![("arms".into(), "random, pretrained".into())],
        arms: vec!["random".into(), "pretrained".into()],
        learning_rates: vec![0.01, 0.001],
        settings: vec![Setting {
            task: "trunk".into(),
            model: "resnet18".into(),
            metric: "macro_f1".into(),
            higher_is_better: true,
            rows: vec![
                row(0.25, [0.50, 0.52, 0.54], [0.70, 0.73, 0.73], compared(1, 0.2, 0.002)),
                row(1.0, [0.80, 0.82, 0.84], [0.83, 0.84, 0.85], compared(1, 0.0, 1.0)),
            ],
        }],
        test: "Compared so.".into(),
        pretrainings: vec![("elsewhere, resnet18".into(), Cost { seconds: 200.0, joules: Some(4.5e5) })],
        explained: vec![Explained {
            setting: "trunk, resnet18, 100 % of the images, seed 1".into(),
            classes: vec!["chest".into()],
            pictures: vec![picture()],
            arms: vec![vec![seen("random.png")], vec![seen("pretrained.png")]],
        }],
        configuration: "seeds = [1, 2, 3]".into(),
        ..StudyReport::default()
    }
}

#[track_caller]
fn assert_shows(report: &StudyReport, parts: &[&str]) {
    let html = render(report);
    assert_well_formed(&html);
    assert!(!html.contains("NaN") && !html.contains("inf)") && !html.contains("<script"), "{html}");
    let text = text(&html);
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
}

#[track_caller]
fn claims(report: &StudyReport) -> Vec<String> {
    guidelines(report).into_iter().map(|guideline| guideline.claim).collect()
}

#[test]
fn the_page_shows_the_numbers() {
    assert_shows(
        &study(),
        &[
            "Does pretraining help?",
            "pretrained beats random in 1 of 2 comparisons and is worse in none; elsewhere the difference may be chance.",
            "trunk, resnet18, 25 %: macro F1 +0.200 (+0.160 to +0.240), 3 seeds, 120 test images, corrected p 0.002",
            // 0.52 ± t₂ 0.02 / √3, t₂ = 4.303.
            "25 % 0.520 (0.470 to 0.570) lr 0.01 0.720 (0.677 to 0.763) +0.200 * (+0.160 to +0.240)",
            "100 % 0.820 (0.770 to 0.870) lr 0.01 0.840 (0.815 to 0.865) +0.000 (−0.040 to +0.040)",
            // The mean of 0.52 and 0.82, and of what each seed has.
            "all shares, on test 0.670 (0.620 to 0.720) 0.780",
            // ((0.3 + 0.5) / 2 + (0.5 + 0.52) / 2) / 2.
            "25 %, epochs 1 to 3, on validation 0.455",
            "The first epochs",
            "Against the number of training images",
            "pretrained − random +0.200 (+0.160 to +0.240) 0.001 0.002",
            "Compared so.",
            "90.5 s 90.7 s",
            "Pretraining elsewhere, resnet18: 3.3 min, 0.1 kWh. Energy is not known",
            "What the arms see",
            "trunk, resnet18, 100 % of the images, seed 1 chest image random random.png pretrained pretrained.png",
            "The smallest cell has 3 tested runs",
            "seeds = [1, 2, 3]",
        ],
    );
    let html = render(&study());
    for point in ["pretrained, epoch 1: 0.5", "random, training images, % 0.25: 0.52"] {
        assert!(html.contains(point), "{point:?} is no point of a chart");
    }
    assert_eq!(html.matches("class=\"band arm-").count(), 6);
    assert!(!html.contains("http") && !html.contains("url("));
}

#[test]
fn leads_with_few_images_and_at_first_are_found() {
    let claims = claims(&study());
    assert_eq!(claims.len(), 3);
    // 0.20, 0.21, 0.19 with a quarter of the images, 0.03, 0.02, 0.01 with all: paired by seed 0.17, 0.19, 0.18.
    assert_eq!(
        claims[1],
        "Few images favour pretrained: its lead over random is larger with the smallest share than with the largest in 1 of 1 \
         case."
    );
    assert_eq!(
        claims[2],
        "With few epochs prefer pretrained: over the first of them it is ahead of random in 2 of 2 cases."
    );
    let evidence = &guidelines(&study())[1].evidence;
    assert_eq!(evidence.len(), 1);
    assert!(evidence[0].contains("+0.180 (+0.155 to +0.205), 3 seeds"), "{evidence:?}");
}

#[test]
fn less_is_better_turns_the_verdicts() {
    let mut report = study();
    report.settings[0].metric = "mae".into();
    report.settings[0].higher_is_better = false;
    let claims = claims(&report);
    assert!(
        claims[0].starts_with("pretrained is worse than random in 1 of 2 comparisons and better in none"),
        "{claims:?}"
    );
    assert!(claims[1].starts_with("Few images do not favour pretrained"), "{claims:?}");
    assert!(claims[2].starts_with("pretrained is behind random"), "{claims:?}");
    assert_shows(&report, &["MAE, less is better"]);
    // The lower mean is the best of its row.
    assert!(render(&report).contains(r#"<td class="best"><span class="value">0.520"#));
}

#[test]
fn what_a_number_means_is_said_beside_it() {
    let mut report = study();
    report.settings[0].rows[0].arms[0].iter_mut().zip([0.0, 0.1, 0.9]).for_each(|(run, value)| run.value = Some(value));
    assert_shows(
        &report,
        &[
            // 0.333 ± 4.303 · 0.493 / √3.
            "0.333 (−0.892 to 1.559)",
            "which with few seeds may reach beyond what the metric can be",
            "trunk, resnet18, 25 %: lead in macro F1 on validation over the first 3 epochs: +0.200",
            "p is corrected, intervals are not",
        ],
    );
    assert_eq!(render(&report).matches("Compared so.").count(), 1);
}

#[test]
fn learning_rates_are_shown_and_the_ends_of_the_grid_pointed_out() {
    let mut report = study();
    assert_shows(&report, &["(0.470 to 0.570) lr 0.01 0.720 (0.677 to 0.763) +0.200 * (+0.160 to +0.240) lr 0.001"]);
    report.learning_rates = vec![0.01, 0.001, 0.0001];
    report.settings[0].rows[0].rates[0] = None;
    assert_shows(&report, &["In 1 of 3 cells the learning rate that was chosen is the lowest or the highest"]);
    report.learning_rates = vec![0.01];
    assert!(!render(&report).contains("lr 0.01"));
}

#[test]
fn what_is_not_decided_is_said_so() {
    let mut report = study();
    report.settings[0].rows[0].comparisons = vec![compared(1, 0.03, 0.2)];
    assert_eq!(
        claims(&report)[0],
        "Whether pretrained helps is not decided: in none of 2 comparisons does it differ significantly from random. The \
         intervals reach up to 0.070 in macro F1, so effects of that size remain possible."
    );
    let mut mixed = report.clone();
    mixed.settings.push(Setting { metric: "auc".into(), ..Setting::default() });
    assert!(claims(&mixed)[0].ends_with("Effects within the intervals remain possible."));
    report.settings[0].rows[0].comparisons = vec![compared(1, 0.3, 0.01)];
    report.settings[0].rows[1].comparisons = vec![compared(1, -0.3, 0.01)];
    assert_eq!(claims(&report)[0], "It depends: pretrained beats random in 1 of 2 comparisons and is worse in 1.");
    report.settings[0].rows[1].comparisons = vec![compared(1, 0.3, 0.01)];
    assert_eq!(claims(&report)[0], "Start from pretrained: it beats random in all 2 comparisons.");
}

#[test]
fn a_part_of_the_archive_is_set_against_the_whole() {
    let mut report = study();
    report.parts = vec![Part { whole: 1, part: 0, of: "modality=CT".into() }];
    let both = "Of pretrained, pretrained on everything, and random, pretrained in the same way on modality=CT alone, ";
    assert_eq!(claims(&report)[3], format!("{both}the first is better in 1 of 2 comparisons and worse in 0."));
    // The other way round the same comparison has the other sign.
    report.parts = vec![Part { whole: 0, part: 1, of: "modality=CT".into() }];
    assert!(claims(&report)[3].ends_with("the first is better in 0 of 2 comparisons and worse in 1."));
    assert!(guidelines(&report)[3].evidence[0].contains("macro F1 −0.200 (−0.240 to −0.160)"));
    report.settings[0].rows.remove(0);
    assert!(
        claims(&report)[2].ends_with("neither is shown to be better in any of 1 comparison."),
        "{:?}",
        claims(&report)
    );
}

#[test]
fn pictures_are_warm_where_their_map_is_high() {
    let warm = picture().overlaid(&[0.0, 0.5]);
    assert_eq!((warm.pixels.len(), &warm.pixels[..3]), (6, &[0, 0, 0][..]));
    // 60 % of flame over the gray of 100.
    assert_eq!(warm.pixels[3..], [193, 166, 64]);
    assert_eq!(picture().overlaid(&[0.0, 0.0]).pixels, [0, 0, 0, 100, 100, 100]);
    let mut report = study();
    report.explained.clear();
    assert!(!render(&report).contains("What the arms see"));
    report.unexplained = Some("the data are gone".into());
    assert_shows(&report, &["What the arms see", "Not shown: the data are gone"]);
}

#[test]
fn networks_that_learn_nothing_prove_nothing() {
    let mut report = study();
    for row in &mut report.settings[0].rows {
        row.arms.iter_mut().flatten().for_each(|run| run.value = Some(0.167));
        row.comparisons[0] = Compared { interval: Interval { low: 0.0, high: 0.0 }, ..compared(1, 0.0, 1.0) };
    }
    assert!(claims(&report)[0].ends_with("All of their runs came to the same, which tells nothing."));
    assert_shows(&report, &["trunk, resnet18, 25 %: all runs of all arms came to the same value."]);
    let alike = |report| render(report).matches("came to the same value").count();
    assert_eq!((alike(&report), alike(&study())), (2, 0));
}

#[test]
fn energy_is_shown_where_all_runs_know_it() {
    let mut report = study();
    let rows = &mut report.settings[0].rows;
    rows[0].arms[0].iter_mut().zip([100.0, 200.0, 600.0]).for_each(|(run, joules)| run.cost.joules = Some(joules));
    rows[0].arms[1][0].cost.joules = Some(1.0);
    rows[1].arms[0].iter_mut().for_each(|run| run.cost.joules = Some(12_340.0));
    assert_shows(
        &report,
        &["25 % 90.5 s 300 J 90.7 s", "100 % 90.8 s 12.3 kJ 90.8 s", "Energy is that of the whole device"],
    );
}

#[test]
fn validation_that_stands_still_at_first_is_pointed_out() {
    let mut report = study();
    let warning = "trunk, resnet18: in 2 of 6 runs of random validation says the same at its first two looks or more";
    report.settings[0].rows[0].arms[0].iter_mut().take(2).for_each(|run| run.curve[0] = run.curve[1]);
    assert_shows(&report, &[warning]);
    assert!(!render(&study()).contains("says the same"));
}

#[test]
fn one_seed_claims_nothing_of_seeds() {
    let mut report = study();
    for row in &mut report.settings[0].rows {
        row.arms.iter_mut().for_each(|runs| runs.truncate(1));
        row.comparisons[0].seeds = 1;
    }
    let claims = claims(&report);
    assert!(claims[0].starts_with("Whether pretrained helps is not decided"), "{claims:?}");
    assert!(claims[1].starts_with("It is not decided whether pretrained leads random by more"), "{claims:?}");
    assert!(claims[2].starts_with("It is not decided whether pretrained learns faster"), "{claims:?}");
    assert_shows(
        &report,
        &[
            "The smallest cell has 1 tested run;",
            "0.500 1 seed",
            "1 seed, no interval",
            "1 seed and so two networks alone",
        ],
    );
    assert_eq!(render(&report).matches("class=\"band").count(), 0);
}

#[test]
fn failed_and_missing_runs_are_named_and_nothing_breaks() {
    let mut report = study();
    report.failed = vec![("trunk, resnet18, seed 4".into(), "out of memory".into())];
    report.missing = (0..60).map(|seed| format!("run of seed {seed}")).collect();
    report.settings[0].rows[1].arms[1].clear();
    report.settings[0].rows[1].comparisons.clear();
    assert_shows(
        &report,
        &[
            "1 run failed",
            "trunk, resnet18, seed 4 out of memory",
            "60 runs missing",
            "and 10 more",
            "– no tested run",
            "Not every arm has the same runs",
        ],
    );
    // A share of which no run is done keeps its place on the axis.
    report.settings[0].rows[1].arms[0].clear();
    let html = render(&report);
    let ticks = html.split("<text class=\"tick\"").filter(|tick| tick.contains(">25<") || tick.contains(">100<"));
    let places: Vec<&str> = ticks.filter_map(|tick| tick.split('"').nth(1)).collect();
    assert!(places.len() == 2 && places[0] != places[1], "{places:?}");
    // All failed.
    report.settings[0].rows.iter_mut().for_each(|row| {
        row.arms.iter_mut().for_each(Vec::clear);
        row.comparisons.clear();
    });
    assert_eq!(
        claims(&report),
        ["Nothing can be said of pretrained: no comparison with random has tested runs of both."]
    );
    assert_shows(&report, &["The smallest cell has 0 tested runs"]);
    // Values and epochs without a number, arms that are equal, and one arm.
    let mut report = study();
    for row in &mut report.settings[0].rows {
        row.arms[1] = row.arms[0].clone();
        row.arms[0][0].value = None;
        row.arms[0][1].curve = vec![None, Some(f64::NAN), None];
    }
    assert_shows(&report, &["random"]);
    report.arms.truncate(1);
    report.settings[0].rows.iter_mut().for_each(|row| {
        row.arms.truncate(1);
        row.comparisons.clear();
    });
    assert!(claims(&report).is_empty());
    assert_shows(&report, &["Results on test"]);
    assert_well_formed(&render(&StudyReport::default()));
}

#[test]
fn a_comparison_that_cannot_be_computed_is_said_so() {
    let mut report = study();
    let why = "trunk, resnet18, 100 %: not compared, since the macro F1 of one of these runs does not exist";
    report.settings[0].rows[1].comparisons.clear();
    let decided = &guidelines(&report)[0];
    assert_eq!(decided.claim, "Start from pretrained: it beats random in the one comparison.");
    assert!(decided.evidence.len() == 2 && decided.evidence[1].starts_with(why), "{:?}", decided.evidence);
    report.settings[0].rows[0].comparisons.clear();
    let open = &guidelines(&report)[0];
    assert_eq!(
        open.claim,
        "Nothing can be said of pretrained: runs of it and of random are tested, but their difference cannot be computed."
    );
    assert!(open.evidence.len() == 2 && open.evidence[1].starts_with(why), "{:?}", open.evidence);
}

#[test]
fn any_text_is_escaped() {
    let mut report = study();
    let attack = || ATTACK.to_string();
    report.question = attack();
    report.arms = vec![attack(), attack()];
    report.settings[0].task = attack();
    report.settings[0].model = attack();
    report.settings[0].metric = attack();
    report.failed = vec![(attack(), attack())];
    report.missing = vec![attack()];
    report.design = vec![(attack(), attack())];
    report.pretrainings = vec![(attack(), Cost::default())];
    report.test = attack();
    report.unexplained = Some(attack());
    report.parts = vec![Part { whole: 0, part: 1, of: attack() }];
    let explained = &mut report.explained[0];
    (explained.setting, explained.classes, explained.arms[0][0].name) = (attack(), vec![attack()], attack());
    report.configuration = attack();
    let html = render(&report);
    assert!(!html.contains("<script") && !html.contains("alert(\""));
    assert_well_formed(&html);
}
