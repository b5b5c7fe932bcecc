//! Tables of text: columns aligned, fitted to a terminal's width, one row per line where there is no terminal.
//!
//! Invariant: a control character in a cell is never written, so that a file's name cannot drive the terminal.

use crate::base::cannot_be_shown;
use comfy_table::{CellAlignment, ContentArrangement};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    Left,
    Right,
}

pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Empty text when there are no rows.
    pub fn render(&self, width: Option<u16>) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(self.columns.iter().map(|(title, _)| *title));
        self.rows.iter().for_each(|row| {
            table.add_row(row);
        });
        match width {
            Some(width) => {
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        for (index, (_, align)) in self.columns.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                // The gap between columns stands on the right of each.
                column.set_padding((0, 2));
                let alignment = if *align == Align::Right { CellAlignment::Right } else { CellAlignment::Left };
                column.set_cell_alignment(alignment);
            }
        }
        table.trim_fmt()
    }
}

/// The text with every control character and direction override replaced.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if cannot_be_shown(c) { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right)]);
        table.row(["a long name of a model.safetensors".to_owned(), "1.0 GiB".to_owned()]);
        table.row(["b\u{1b}[31m".to_owned(), "2 B".to_owned()]);
        table
    }

    #[test]
    fn a_pipe_gets_one_line_per_row() {
        let text = sample().render(None);
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "NAME                                   SIZE",
                "a long name of a model.safetensors  1.0 GiB",
                "b\u{FFFD}[31m                                  2 B",
            ]
        );
    }

    #[test]
    fn a_terminal_gets_no_line_wider_than_itself() {
        assert!(sample().render(Some(30)).lines().all(|line| line.chars().count() <= 30));
    }

    #[test]
    fn no_rows_are_no_text() {
        assert_eq!(Table::new(&[("NAME", Align::Left)]).render(None), "");
    }
}
