//! Series of measured times, and how they are shown.

use std::time::{Duration, Instant};

use anyhow::Result;

/// All figures of a run.
#[derive(Debug)]
pub(super) struct Report {
    rounds: usize,
    series: Vec<Series>,
}

/// One figure, measured several times; milliseconds.
#[derive(Debug)]
pub(super) struct Series {
    name: String,
    values: Vec<f64>,
}

impl Report {
    pub(super) fn new(rounds: usize) -> Self {
        Self { rounds: rounds.max(1), series: Vec::new() }
    }

    /// How often each figure is measured.
    pub(super) fn rounds(&self) -> usize {
        self.rounds
    }

    pub(super) fn add(&mut self, series: Series) {
        eprintln!("{:<44} median {:>9.3} ms", series.name, series.quantile(0.5));
        self.series.push(series);
    }

    pub(super) fn table(&self) -> Result<()> {
        println!(
            "{:<44} {:>5} {:>10} {:>10} {:>10} {:>10}",
            "milliseconds", "n", "min", "median", "p90", "max"
        );
        for series in &self.series {
            println!(
                "{:<44} {:>5} {:>10.3} {:>10.3} {:>10.3} {:>10.3}",
                series.name,
                series.values.len(),
                series.quantile(0.0),
                series.quantile(0.5),
                series.quantile(0.9),
                series.quantile(1.0)
            );
        }
        Ok(())
    }

    pub(super) fn json(&self) -> Result<()> {
        let rows: Vec<_> = self
            .series
            .iter()
            .map(|series| {
                serde_json::json!({
                    "name": series.name, "unit": "ms", "n": series.values.len(),
                    "min": series.quantile(0.0), "median": series.quantile(0.5),
                    "p90": series.quantile(0.9), "max": series.quantile(1.0),
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        Ok(())
    }
}

impl Series {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), values: Vec::new() }
    }

    pub(super) fn push(&mut self, ms: f64) {
        self.values.push(ms);
    }

    /// Measures one call.
    pub(super) fn time<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = call()?;
        self.push(ms(start.elapsed()));
        Ok(result)
    }

    /// The value below which the given share of all values lies.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a short list"
        )]
        let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut series = Series::new("x");
        for value in [5.0, 1.0, 3.0, 2.0, 4.0] {
            series.push(value);
        }
        assert_eq!([0.0, 0.5, 1.0].map(|share| series.quantile(share)), [1.0, 3.0, 5.0]);
        assert!(Series::new("empty").quantile(0.5).is_nan());
    }
}
