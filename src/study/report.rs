//! The report of a study, out of the outcomes of its runs.

use super::{Arm, CellResults, Comparison, Metric, Outcome, Results, Start, Status, Study, share};
use crate::{
    Result,
    data::Columns,
    report::study::{Compared, Cost, Part, Row, RunFigures, Setting, StudyReport},
    train::Config,
};

impl Results {
    /// All that the report shows but pictures; `comparisons` are those of [`Results::comparisons`].
    ///
    /// # Errors
    /// Outcomes of pretrainings that cannot be read.
    pub fn report(&self, study: &Study, comparisons: &[Comparison]) -> Result<StudyReport> {
        let rows = self.cells.chunks(study.arms.len()).map(|arms| row(study, arms, comparisons));
        let rows: Vec<Row> = rows.collect();
        let cells = self.cells.chunks(study.arms.len() * study.fractions.len());
        let settings = cells.zip(rows.chunks(study.fractions.len())).map(|(cells, rows)| setting(study, cells, rows));
        let reason = |outcome: &Outcome| match &outcome.status {
            Status::Failed(reason) => reason.clone(),
            _ => String::new(),
        };
        Ok(StudyReport {
            question: study.question.clone(),
            design: self.design(study),
            arms: study.arms.iter().map(|arm| arm.name.clone()).collect(),
            learning_rates: study.learning_rates.clone(),
            settings: settings.collect(),
            test: format!(
                "Differences are tested over seeds and groups of test cases, both random (Obuchowski and Rockette's analysis of \
                 variance with Hillis's degrees of freedom, groups left out in turn), and corrected for all \
                 comparisons of the study, {} in number (Holm).",
                comparisons.len()
            ),
            failed: self.failed().map(|outcome| (outcome.place(), reason(outcome))).collect(),
            missing: self.missing().map(|run| study.describe(run)).collect(),
            parts: parts(study),
            explained: vec![],
            unexplained: None,
            pretrainings: pretrainings(study)?,
            configuration: self.cells.first().and_then(|cell| cell.runs.first()).map_or(String::new(), |(run, _)| {
                let recipe = toml::to_string(&run.config).expect("a recipe is plain data");
                format!("# of the first run: {}\n{recipe}", study.describe(run))
            }),
            environment: vec![],
        })
    }

    /// The grid as it was declared, and how much of it is done.
    fn design(&self, study: &Study) -> Vec<(String, String)> {
        let list = |items: Vec<String>| items.join(", ");
        let arm = |arm: &Arm| match &arm.start {
            Start::Random => format!("{} (random weights)", arm.name),
            Start::Files(_) => format!("{} (files of weights)", arm.name),
            Start::Pretrained(i) => {
                let only = study.pretraining(*i, 0).columns.only.join(" and ");
                let of = if only.is_empty() { only } else { format!(" of {only}") };
                format!("{} (pretrained: {}{of})", arm.name, study.pretrainings[*i].name)
            }
        };
        let tested = self.cells.iter().flat_map(CellResults::tested).count();
        let facts = [
            ("tasks", list(study.tasks.iter().map(|task| task.name.clone()).collect())),
            ("networks", list(study.backbones.iter().map(|backbone| backbone.name.clone()).collect())),
            ("arms", list(study.arms.iter().map(arm).collect())),
            ("training images", list(study.fractions.iter().map(|&fraction| share(fraction)).collect())),
            (
                if study.learning_rates.len() > 1 { "learning rates, chosen on validation" } else { "learning rate" },
                list(study.learning_rates.iter().map(|lr| format!("{lr:?}")).collect()),
            ),
            ("seeds", list(study.seeds.iter().map(u64::to_string).collect())),
            ("seed of the splits", study.split_seed.to_string()),
            ("tested runs", format!("{tested} of {}", self.cells.len() * study.seeds.len())),
        ];
        facts.map(|(name, value)| (name.to_string(), value)).into()
    }
}

/// A task with a backbone; `cells` are all of its cells.
fn setting(study: &Study, cells: &[CellResults], rows: &[Row]) -> Setting {
    let (run, _) = &cells[0].runs[0];
    let Metric { name: metric, higher_is_better } = study.blank(run, Status::Trained).metric;
    Setting {
        task: study.tasks[run.cell.task].name.clone(),
        model: study.backbones[run.cell.backbone].name.clone(),
        metric,
        higher_is_better,
        rows: rows.into(),
    }
}

/// What the cells of all arms came to.
fn row(study: &Study, arms: &[CellResults], comparisons: &[Comparison]) -> Row {
    let of_row = comparisons.iter().filter(|comparison| arms.iter().any(|cell| cell.cell == comparison.of.cell));
    let compared = |comparison: &Comparison| {
        let Comparison { of, against, seeds, difference, interval, p, adjusted } = comparison;
        let (of, against) = (of.cell.arm, against.cell.arm);
        Compared {
            of,
            against,
            seeds: *seeds,
            difference: *difference,
            interval: *interval,
            p: *p,
            adjusted: *adjusted,
        }
    };
    let figures = |outcome: &Outcome| RunFigures {
        seed: outcome.seed,
        value: outcome.value,
        curve: outcome.curve.metric.clone(),
        cost: cost(outcome),
    };
    Row {
        fraction: study.fractions[arms[0].cell.fraction],
        test_images: arms.iter().flat_map(CellResults::tested).map(|outcome| outcome.test_images).max().unwrap_or(0),
        rates: arms.iter().map(|cell| cell.lr).collect(),
        arms: arms.iter().map(|cell| cell.tested().map(figures).collect()).collect(),
        comparisons: of_row.map(compared).collect(),
    }
}

/// Pairs of arms whose pretrainings differ only in that one was given a part of the rows.
fn parts(study: &Study) -> Vec<Part> {
    let recipe = |arm: &Arm| match arm.start {
        Start::Pretrained(pretraining) => Some(study.pretraining(pretraining, 0)),
        _ => None,
    };
    let recipes: Vec<_> = study.arms.iter().map(recipe).collect();
    let pair = |whole: usize, part: usize| {
        let (whole_recipe, part_recipe) = (recipes[whole].as_ref()?, recipes[part].as_ref()?);
        let of = part_recipe.columns.only.join(" and ");
        let columns = Columns { only: vec![], ..part_recipe.columns.clone() };
        let same = *whole_recipe == Config { columns, ..part_recipe.clone() };
        (same && !of.is_empty()).then_some(Part { whole, part, of })
    };
    let arms = 0..study.arms.len();
    arms.clone().flat_map(|whole| arms.clone().filter_map(move |part| pair(whole, part))).collect()
}

fn cost(outcome: &Outcome) -> Cost {
    Cost { seconds: outcome.seconds, joules: outcome.joules }
}

/// What each pretraining that is done has cost.
fn pretrainings(study: &Study) -> Result<Vec<(String, Cost)>> {
    let mut all = vec![];
    for pretraining in study.all_pretrainings() {
        if let Some(outcome) = Outcome::read(&study.folder.join(pretraining.place()))? {
            all.push((format!("{}, {}", pretraining.name, outcome.model), cost(&outcome)));
        }
    }
    Ok(all)
}
