//! stdout, written through one handle. Invariant: JSON is one value per command, followed by a line break.

use super::error::{Failure, from_output};
use super::table::Table;
use serde_json::Value;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

pub struct Output {
    out: BufWriter<StdoutLock<'static>>,
    /// Columns of the terminal; `None` when stdout is a file or a pipe, which has no width.
    width: Option<u16>,
}

impl Output {
    pub fn stdout() -> Self {
        let stdout = io::stdout();
        let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout));
        let width = size.and_then(Result::ok).map(|size| size.ws_col).filter(|columns| *columns > 0);
        Self { out: BufWriter::new(stdout.lock()), width }
    }

    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        writeln!(self.out, "{}", text.as_ref()).map_err(from_output)
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(from_output)
    }

    pub fn json(&mut self, value: &Value) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.out, value).map_err(|error| from_output(error.into()))?;
        self.line("")
    }

    pub fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let text = table.render(self.width);
        if text.is_empty() { Ok(()) } else { self.line(text) }
    }

    /// A destructor could not report a failed write, so each verb ends with this.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(from_output)
    }
}
