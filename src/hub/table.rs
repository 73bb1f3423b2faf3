//! Rows as a table for people: aligned columns, numbers to the right, nothing a terminal obeys.

use super::query::hex;
use super::{Cell, Rows};
use std::fmt::Write as _;

/// The lines of the table: names, a rule, the rows.
pub fn aligned(rows: &Rows) -> Vec<String> {
    let texts: Vec<Vec<String>> = rows
        .rows
        .iter()
        .map(|row| row.iter().map(shown).collect())
        .collect();
    let names: Vec<String> = rows.columns.iter().map(|name| escaped(name)).collect();
    let width = |column: usize| {
        let cells = texts.iter().filter_map(|row| row.get(column));
        let widest = cells.chain(names.get(column)).map(|t| t.chars().count());
        widest.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let right: Vec<bool> = (0..names.len())
        .map(|column| {
            let mut cells = rows
                .rows
                .iter()
                .filter_map(|row| row.get(column))
                .peekable();
            cells.peek().is_some()
                && cells.all(|c| matches!(c, Cell::Integer(_) | Cell::Real(_) | Cell::Null))
        })
        .collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for ((cell, &width), &right) in cells.iter().zip(&widths).zip(&right) {
            let _ = match right {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:<width$}  "),
            };
        }
        line.trim_end().to_owned()
    };
    let rule: Vec<String> = widths.iter().map(|&w| "-".repeat(w)).collect();
    let mut lines = vec![line(&names), line(&rule)];
    lines.extend(texts.iter().map(|row| line(row)));
    lines
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Integer(i) => i.to_string(),
        Cell::Real(r) => r.to_string(),
        Cell::Text(t) => escaped(t),
        Cell::Blob(b) => format!("x'{}'", hex(b)),
    }
}

/// Control characters as `\n`, `\t`, `\u{1b}`: log lines come from strangers.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_escapes_are_shown() {
        let rows = Rows {
            columns: vec!["Name".into(), "Count".into(), "What".into()],
            rows: vec![
                vec![Cell::Text("é".into()), Cell::Integer(7), Cell::Null],
                vec![
                    Cell::Text("longer".into()),
                    Cell::Integer(1234567),
                    Cell::Text("\u{1b}[31m\n".into()),
                ],
            ],
        };
        assert_eq!(
            aligned(&rows),
            [
                "Name      Count  What",
                "------  -------  ------------",
                "é             7",
                "longer  1234567  \\u{1b}[31m\\n",
            ]
        );
    }

    #[test]
    fn no_rows_still_have_names() {
        let rows = Rows {
            columns: vec!["a".into(), "bc".into()],
            rows: vec![],
        };
        assert_eq!(aligned(&rows), ["a  bc", "-  --"]);
    }
}
