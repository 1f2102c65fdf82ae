//! What commands print. A closed pipe (`mainstay links list | head`) ends the output, not the program with an error.

use std::{fmt, io::Write as _};

/// One line on standard output.
pub(crate) fn line(text: impl fmt::Display) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// One line on standard error, for progress and problems.
pub(crate) fn note(text: impl fmt::Display) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// A table with columns as wide as their widest cell; the last one is not padded.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        rows.iter()
            .filter_map(|r| r.get(i))
            .map(|cell| cell.chars().count())
            .chain([header[i].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let render = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (cell, width) in cells.zip(&widths) {
            out += &format!("{cell:<width$}  ");
        }
        out.trim_end().to_owned()
    };
    let mut lines = vec![render(&mut header.iter().copied())];
    lines.extend(rows.iter().map(|row| render(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["a".into(), "long cell".into()], vec!["bcd".into(), "é".into()]];
        assert_eq!(table(&["X", "NAME"], &rows), "X    NAME\na    long cell\nbcd  é");
    }
}
