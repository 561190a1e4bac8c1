//! Medians, percentiles and the rows of the table.

/// The value below which a share of the samples lies.
pub fn percentile(samples: &mut [f64], share: f64) -> f64 {
    assert!(!samples.is_empty(), "nothing was measured");
    samples.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a short list"
    )]
    let index = ((samples.len() - 1) as f64 * share).round() as usize;
    samples[index]
}

/// The middle value.
pub fn median(samples: &mut [f64]) -> f64 {
    percentile(samples, 0.5)
}

/// A line of the table.
pub struct Row {
    measure: String,
    value: f64,
    unit: &'static str,
    floor: Option<f64>,
    aim: &'static str,
}

impl Row {
    /// A measure with its value.
    pub fn new(measure: &str, value: f64, unit: &'static str) -> Self {
        Self {
            measure: measure.to_owned(),
            value,
            unit,
            floor: None,
            aim: "",
        }
    }

    /// With the floor of the same run.
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = Some(floor);
        self
    }

    /// With what it should be.
    pub fn aim(mut self, aim: &'static str) -> Self {
        self.aim = aim;
        self
    }

    /// Prints the line.
    pub fn print(&self) {
        let value = format!("{:.1} {}", self.value, self.unit);
        let floor = self
            .floor
            .map_or_else(String::new, |f| format!("{f:.1} {}", self.unit));
        let ratio = self
            .floor
            .map_or_else(String::new, |f| format!("{:.2}", self.value / f));
        println!(
            "{:<58} {value:>12} {floor:>12} {ratio:>7}  {}",
            self.measure, self.aim
        );
    }
}
