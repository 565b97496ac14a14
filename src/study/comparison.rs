//! What the arms of a study come to, and how far they differ: `table.csv`, `table.md`, `table.tex` and `comparisons.csv`.

use super::{CellResults, Metric, Outcome, Results, Study, share};
use crate::{
    Error, Result,
    metrics::Cases,
    statistics::{Groups, Interval, LEVEL, Mean, holm, paired_difference},
};
use std::fmt::Write;

/// The mean of a cell over its seeds.
pub struct Summary<'a> {
    /// The cell.
    pub cell: &'a CellResults,
    /// The metric.
    pub metric: Metric,
    /// Its mean on the test split; `None` of no tested run.
    pub mean: Option<Mean>,
}

/// Two arms of one task, backbone and fraction.
pub struct Comparison<'a> {
    /// The cell of one.
    pub of: &'a CellResults,
    /// That of the other, earlier in the study.
    pub against: &'a CellResults,
    /// Seeds under which both were tested.
    pub seeds: usize,
    /// By how much the first exceeds the second, over seeds and groups of cases.
    pub difference: f64,
    /// Its interval.
    pub interval: Interval,
    /// Two-sided p value.
    pub p: f64,
    /// The same, corrected for all comparisons of the study (Holm 1979).
    pub adjusted: f64,
}

impl Comparison<'_> {
    /// Whether the difference is significant at 5 %. With one seed it is one of two networks, which tells nothing of their arms.
    fn significant(&self) -> bool {
        self.seeds > 1 && self.adjusted < 1.0 - LEVEL
    }
}

impl Results {
    /// The mean of every cell.
    pub fn summaries(&self) -> Vec<Summary<'_>> {
        let summary = |cell| {
            let values: Vec<f64> = CellResults::tested(cell).filter_map(|outcome| outcome.value).collect();
            Summary { cell, metric: self.metric(cell), mean: Mean::of(&values) }
        };
        self.cells.iter().map(summary).collect()
    }

    fn metric(&self, cell: &CellResults) -> Metric {
        let task = cell.runs[0].0.config.clone();
        Metric::of(task.layout.map_or(task.task, |layout| layout.task()))
    }

    /// Every pair of arms of a task, backbone and fraction, compared over seeds and groups of test cases.
    ///
    /// # Errors
    /// Predictions that cannot be read.
    pub fn comparisons(&self, study: &Study) -> Result<Vec<Comparison<'_>>> {
        let mut all = vec![];
        for arms in self.cells.chunks(study.arms.len()) {
            let tested = arms.iter().map(|cell| self.cases(study, cell)).collect::<Result<Vec<_>>>()?;
            for (second, first) in (0..arms.len()).flat_map(|second| (0..second).map(move |first| (second, first))) {
                all.extend(compare((&arms[second], &tested[second]), (&arms[first], &tested[first])));
            }
        }
        let p: Vec<f64> = all.iter().map(|comparison| comparison.p).collect();
        all.iter_mut().zip(holm(&p)).for_each(|(comparison, adjusted)| comparison.adjusted = adjusted);
        Ok(all)
    }

    /// The seed and the test cases of each tested run.
    fn cases(&self, study: &Study, cell: &CellResults) -> Result<Vec<(u64, Cases)>> {
        let read = |outcome: &Outcome| {
            let predictions = outcome.predictions.as_ref()?;
            let path = study.folder.join(predictions);
            let cases = Cases::read(&path, "test", &outcome.metric.name).and_then(|cases| match cases.names.len() {
                n if n == outcome.test_images => Ok(cases),
                n => Err(Error::unusable(
                    format!("{} has {n} test images of {}", path.display(), outcome.test_images),
                    "the file as the run wrote it; without the run's folder a sweep does the run again",
                )),
            });
            Some(cases.map(|cases| (outcome.seed, cases)))
        };
        cell.tested().filter_map(read).collect()
    }

    /// `table.csv`: a row a cell.
    pub fn table_csv(&self, study: &Study) -> Vec<u8> {
        let mut table = csv::Writer::from_writer(vec![]);
        let head = ["task", "model", "fraction", "arm", "lr", "metric", "seeds", "mean", "sd", "low", "high"];
        table.write_record(head).expect(IN_MEMORY);
        for Summary { cell, metric, mean } in self.summaries() {
            let [task, model, fraction, arm] = names(study, cell);
            let interval = mean.and_then(|mean| mean.interval);
            let numbers = [
                mean.map(|mean| mean.value),
                mean.and_then(|mean| mean.sd),
                interval.map(|interval| interval.low),
                interval.map(|interval| interval.high),
            ];
            let lr = text(cell.lr);
            let seeds = mean.map_or(0, |mean| mean.n).to_string();
            let [mean, sd, low, high] = numbers.map(text);
            let row = [&task, &model, &fraction, &arm, &lr, &metric.name, &seeds, &mean, &sd, &low, &high];
            table.write_record(row).expect(IN_MEMORY);
        }
        table.into_inner().expect(IN_MEMORY)
    }

    /// `comparisons.csv`: a row a pair of arms.
    pub fn comparisons_csv(&self, study: &Study, comparisons: &[Comparison]) -> Vec<u8> {
        let mut table = csv::Writer::from_writer(vec![]);
        let head = [
            "task",
            "model",
            "fraction",
            "arm",
            "against",
            "metric",
            "seeds",
            "difference",
            "low",
            "high",
            "p",
            "p_holm",
        ];
        table.write_record(head).expect(IN_MEMORY);
        for comparison in comparisons {
            let Comparison { of, against, seeds, difference, interval, p, adjusted } = comparison;
            let ([task, model, fraction, arm], [.., against]) = (names(study, of), names(study, against));
            let (metric, seeds) = (self.metric(of).name, seeds.to_string());
            let numbers = [*difference, interval.low, interval.high, *p, *adjusted].map(|number| number.to_string());
            let names = [task, model, fraction, arm, against, metric, seeds];
            table.write_record(names.iter().chain(&numbers)).expect(IN_MEMORY);
        }
        table.into_inner().expect(IN_MEMORY)
    }

    /// The table for people: a row a task, backbone and fraction, a column an arm, mean and interval over the seeds in each. A star
    /// is for arms that differ from the first after Holm's correction.
    fn rows(&self, study: &Study, comparisons: &[Comparison]) -> Vec<Vec<String>> {
        let head = ["task", "network", "images"].map(String::from).into_iter();
        let mut rows = vec![head.chain(study.arms.iter().map(|arm| arm.name.clone())).collect()];
        let differs = |cell: &CellResults| {
            let against_first = |c: &&Comparison| c.of.cell == cell.cell && c.against.cell.arm == 0;
            comparisons.iter().find(against_first).is_some_and(Comparison::significant)
        };
        for arms in self.summaries().chunks(study.arms.len()) {
            let [task, model, ..] = names(study, arms[0].cell);
            let images = share(study.fractions[arms[0].cell.cell.fraction]);
            let cell = |Summary { cell, mean, .. }: &Summary| {
                let Some(mean) = mean else { return "–".to_string() };
                let interval = mean.interval.map_or(String::new(), |i| format!(" ({:.3} to {:.3})", i.low, i.high));
                format!("{:.3}{interval}{}", mean.value, if differs(cell) { " *" } else { "" })
            };
            let name = format!("{task} ({})", arms[0].metric.name);
            rows.push([name, model, images].into_iter().chain(arms.iter().map(cell)).collect());
        }
        rows
    }

    /// `table.md`.
    pub fn table_markdown(&self, study: &Study, comparisons: &[Comparison]) -> String {
        let mut text = String::new();
        for (i, row) in self.rows(study, comparisons).iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            writeln!(text, "| {} |", cells.join(" | ")).expect("a String can be written to");
            if i == 0 {
                text += &format!("|{}\n", "---|".repeat(row.len()));
            }
        }
        text + "\n" + &note(study) + "\n"
    }

    /// `table.tex`, for the package booktabs.
    pub fn table_tex(&self, study: &Study, comparisons: &[Comparison]) -> String {
        let rows = self.rows(study, comparisons);
        let mut text = format!("\\begin{{tabular}}{{{}}}\n\\toprule\n", "l".repeat(rows[0].len()));
        for (i, row) in rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cell| tex(cell)).collect();
            text += &format!("{} \\\\\n", cells.join(" & "));
            if i == 0 {
                text += "\\midrule\n";
            }
        }
        text + "\\bottomrule\n\\end{tabular}\n% " + &note(study) + "\n"
    }
}

const IN_MEMORY: &str = "a Vec can be written to";

fn note(study: &Study) -> String {
    format!(
        "Mean on the test split over {} seeds (95 % interval of the mean, Student's t). * differs from {} at 5 %: paired over \
         seeds and groups of test cases, corrected for all comparisons of the study (Holm).",
        study.seeds.len(),
        study.arms[0].name
    )
}

/// Names of task, model, fraction and arm.
fn names(study: &Study, cell: &CellResults) -> [String; 4] {
    let place = cell.cell;
    [
        study.tasks[place.task].name.clone(),
        study.backbones[place.backbone].name.clone(),
        study.fractions[place.fraction].to_string(),
        study.arms[place.arm].name.clone(),
    ]
}

fn text(number: Option<f64>) -> String {
    number.map_or(String::new(), |number| number.to_string())
}

/// Text that TeX takes as it is.
fn tex(text: &str) -> String {
    let escape = |c: char| match c {
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{c}"),
        '~' => "\\textasciitilde{}".into(),
        '^' => "\\textasciicircum{}".into(),
        '\\' => "\\textbackslash{}".into(),
        '–' => "--".into(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Compares two cells over the seeds that both have; `None` if there is no difference to compute.
fn compare<'a>(
    (of, a): (&'a CellResults, &Vec<(u64, Cases)>),
    (against, b): (&'a CellResults, &Vec<(u64, Cases)>),
) -> Option<Comparison<'a>> {
    let other = |seed: u64| b.iter().find(|(other, _)| *other == seed).map(|(_, cases)| cases);
    let pairs: Vec<(&Cases, &Cases)> = a.iter().filter_map(|(seed, cases)| Some((cases, other(*seed)?))).collect();
    let groups = Groups::named(&pairs.first()?.0.groups);
    let difference = |run: usize, weights: &[f64]| Some(pairs[run].0.metric(weights)? - pairs[run].1.metric(weights)?);
    let found = paired_difference(&groups, pairs.len(), difference)?;
    Some(Comparison {
        of,
        against,
        seeds: pairs.len(),
        difference: found.difference,
        interval: found.interval,
        p: found.p,
        adjusted: found.p,
    })
}
