//! A result as a table, as JSON, and as a bar chart.

use std::{fmt::Write as _, fs, io, path::Path};

use serde_json::{Value, json};

/// One row: a name, and a figure for each column.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) figures: Vec<f64>,
}

/// What a benchmark found.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// For file names.
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// Hardware, settings, what was counted.
    pub(crate) conditions: Vec<String>,
    /// With units.
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Row>,
    /// The column that the chart shows.
    pub(crate) charted: usize,
}

impl Report {
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", self.title);
        for condition in &self.conditions {
            out = out + "- " + condition + "\n";
        }
        out = out + "\n| | " + &self.columns.join(" | ") + " |\n|---|" + &"--:|".repeat(self.columns.len()) + "\n";
        for row in &self.rows {
            let figures: Vec<String> = row.figures.iter().map(|f| shown(*f)).collect();
            out = out + "| " + &row.name + " | " + &figures.join(" | ") + " |\n";
        }
        out
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let figures = self.columns.iter().zip(&row.figures).map(|(c, f)| ((*c).to_owned(), json!(f)));
                json!({ "name": row.name, "figures": Value::Object(figures.collect()) })
            })
            .collect();
        json!({ "benchmark": self.name, "title": self.title, "conditions": self.conditions, "rows": rows })
    }

    fn svg(&self) -> String {
        const BAR: u32 = 34;
        const WIDTH: f64 = 420.0;
        let count = u32::try_from(self.rows.len()).unwrap_or(0);
        let height = 60 + count * BAR;
        let largest =
            self.rows.iter().filter_map(|r| r.figures.get(self.charted)).fold(f64::MIN_POSITIVE, |a, b| a.max(*b));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 {height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
             <rect width=\"760\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"600\">{}</text>\n\
             <text x=\"12\" y=\"44\" fill=\"#555\">{}</text>\n",
            escape(&self.title),
            escape(self.columns.get(self.charted).copied().unwrap_or_default())
        );
        let mut y = 56;
        for row in &self.rows {
            let value = row.figures.get(self.charted).copied().unwrap_or(0.0);
            let width = value / largest * WIDTH;
            // Writing to a String cannot fail.
            writeln!(
                out,
                "<text x=\"232\" y=\"{0}\" text-anchor=\"end\">{1}</text><rect x=\"240\" y=\"{y}\" width=\"{width:.1}\" height=\"22\" rx=\"3\" \
                 fill=\"#2f6fde\"/><text x=\"{2:.1}\" y=\"{0}\">{3}</text>",
                y + 16,
                escape(&row.name),
                248.0 + width,
                shown(value)
            )
            .ok();
            y += BAR;
        }
        out + "</svg>\n"
    }

    /// Writes the three files; their paths.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<Vec<String>> {
        fs::create_dir_all(folder)?;
        let json = serde_json::to_string_pretty(&self.json())?;
        let files = [("md", self.markdown()), ("json", json), ("svg", self.svg())];
        let mut paths = Vec::new();
        for (ending, text) in files {
            let path = folder.join(self.name).with_extension(ending);
            fs::write(&path, text)?;
            paths.push(path.display().to_string());
        }
        Ok(paths)
    }
}

/// The round in the middle, by the given figure.
pub(crate) fn median<T: Clone>(rounds: &[T], figure: impl Fn(&T) -> f64) -> T {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(|a, b| figure(a).total_cmp(&figure(b)));
    sorted.get(sorted.len() / 2).cloned().expect("there was at least one round")
}

fn shown(figure: f64) -> String {
    if figure >= 1000.0 {
        // Thousands apart, as 12 345.
        let digits = format!("{figure:.0}");
        let mut out = String::new();
        for (at, c) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                out.push('\u{202f}');
            }
            out.push(c);
        }
        out
    } else if figure >= 100.0 {
        format!("{figure:.0}")
    } else {
        format!("{figure:.2}")
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_the_same_in_three_forms() {
        let report = Report {
            name: "x",
            title: "X & Y".to_owned(),
            conditions: vec!["here".to_owned()],
            columns: vec!["per second", "p99 in ms"],
            rows: vec![Row { name: "a".to_owned(), figures: vec![12_345.6, 1.5] }],
            charted: 0,
        };
        assert!(report.markdown().contains("| a | 12\u{202f}346 | 1.50 |"), "{}", report.markdown());
        assert_eq!(report.json()["rows"][0]["figures"]["p99 in ms"], 1.5);
        assert!(report.svg().contains("X &amp; Y"));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(report.write(folder.path()).unwrap().len(), 3);
        assert!((median(&[3.0, 1.0, 2.0], |f| *f) - 2.0).abs() < f64::EPSILON);
    }
}
