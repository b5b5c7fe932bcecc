//! Follows the opcodes of a pickle, protocols 0 to 5, over inert values.
//!
//! Invariants: every opcode costs a step; the stack, the marks and the memo never grow beyond their limits; bytes that
//! are not kept are skipped, not read. Not here: what a call would make (`rebuild`).

use super::TEXT_BYTES_MAX;
use super::heap::{Heap, Kind, Value};
use crate::formats::limits::over;
use crate::formats::window::Window;
use crate::formats::{Format, FormatError};

/// Most opcodes followed: a state dict of 10,000 tensors has about 500,000.
const STEPS_MAX: u64 = 5_000_000;

/// Writers put containers away every 1,000 members; only one tuple of many members makes the stack longer.
const STACK_MAX: usize = 256 << 10;

/// Marks open at once: one per level of nesting, and Python itself stops near 1,000 levels.
const MARKS_MAX: usize = 10_000;

/// Writers number the memo from zero, about ten numbers per tensor.
const MEMO_MAX: usize = 1_000_000;

/// Longest line of a text opcode: a number or a name of the oldest protocol.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Longest module or class name kept of an import.
const IMPORT_BYTES_MAX: usize = 256;

const PROTOCOL_MAX: u8 = 5;

pub(in crate::formats) struct Machine<'a> {
    window: Window<'a>,
    format: Format,
    heap: Heap,
    stack: Vec<Value>,
    /// Lengths of the stack at the open marks.
    marks: Vec<usize>,
    memo: Vec<Value>,
    memo_count: usize,
    steps: u64,
}

impl<'a> Machine<'a> {
    /// `window` stands at the first byte of a pickle; `format` is named in messages.
    pub(in crate::formats) fn new(window: Window<'a>, format: Format) -> Self {
        Self {
            window,
            format,
            heap: Heap::default(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            memo_count: 0,
            steps: 0,
        }
    }

    /// Follows one pickle to its end and returns the value it leaves; the next one begins there.
    pub(in crate::formats) fn run(&mut self) -> Result<Value, FormatError> {
        self.stack.clear();
        self.marks.clear();
        self.memo.clear();
        self.memo_count = 0;
        loop {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(over("opcodes", STEPS_MAX, self.steps));
            }
            match self.window.u8()? {
                b'.' => return self.pop(),
                opcode => self.step(opcode)?,
            }
        }
    }

    /// Where the last pickle ended.
    pub(in crate::formats) fn position(&self) -> u64 {
        self.window.position()
    }

    pub(in crate::formats) fn heap(&self) -> &Heap {
        &self.heap
    }

    /// The values alone; what only following needed is freed.
    pub(in crate::formats) fn into_heap(self) -> Heap {
        self.heap
    }

    fn step(&mut self, opcode: u8) -> Result<(), FormatError> {
        match opcode {
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | b'I' | b'L' | 0x8a | 0x8b | b'G' | b'F' => self.number(opcode),
            b'X' | 0x8c | 0x8d | b'V' | b'U' | b'T' | b'S' => self.text(opcode),
            b'C' | b'B' | 0x8e | 0x96 => {
                let count = self.length(opcode)?;
                self.window.skip(count)?;
                self.push(Value::Opaque)
            }
            b'(' | b'0' | b'1' | b'2' => self.arrange(opcode),
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.remember(opcode),
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' | 0x8f | 0x91 => self.make(opcode),
            b'a' | b'e' | b's' | b'u' | 0x90 | b'b' => self.change(opcode),
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'i' | b'o' | b'Q' | b'P' | 0x82..=0x84 => self.call(opcode),
            0x80 => match self.window.u8()? {
                0..=PROTOCOL_MAX => Ok(()),
                protocol => Err(self.malformed(format_args!("pickle protocol {protocol} is unknown"))),
            },
            // A frame says how much to read ahead; a buffer comes from outside the pickle.
            0x95 => self.window.skip(8),
            0x97 => self.push(Value::Opaque),
            0x98 => Ok(()),
            _ => Err(self.malformed(format_args!("{opcode:#04x} is no opcode"))),
        }
    }

    fn number(&mut self, opcode: u8) -> Result<(), FormatError> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(self.window.u8()?.into()),
            b'M' => Value::Int(self.window.u16()?.into()),
            b'J' => Value::Int(self.window.u32()?.cast_signed().into()),
            b'G' => {
                let bits = self.window.u64()?;
                Value::Float(f64::from_bits(bits.swap_bytes()))
            }
            b'F' => self.number_line(|text| text.parse().ok().map(Value::Float))?,
            b'I' => self.number_line(|text| match text {
                "00" => Some(Value::Bool(false)),
                "01" => Some(Value::Bool(true)),
                digits => digits.parse().ok().map(Value::Int),
            })?,
            b'L' => self.number_line(|text| text.trim_end_matches('L').parse().ok().map(Value::Int))?,
            _ => {
                let count = if opcode == 0x8a { self.window.u8()?.into() } else { self.window.u32()? };
                if count.cast_signed() < 0 {
                    return Err(self.malformed("a number has a negative length"));
                }
                self.long(count)?
            }
        };
        self.push(value)
    }

    /// A little-endian number in two's complement.
    fn long(&mut self, count: u32) -> Result<Value, FormatError> {
        let kept = count.min(8) as usize;
        let bytes = self.window.bytes(kept)?;
        self.window.skip(u64::from(count) - kept as u64)?;
        let fill = if count <= 8 && bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide[..kept].copy_from_slice(&bytes);
        Ok(if count <= 8 { Value::Int(i64::from_le_bytes(wide)) } else { Value::Long(u64::from_le_bytes(wide)) })
    }

    fn number_line(&mut self, parse: impl Fn(&str) -> Option<Value>) -> Result<Value, FormatError> {
        let line = self.window.line(LINE_BYTES_MAX)?;
        Ok(std::str::from_utf8(&line).ok().and_then(|text| parse(text.trim())).unwrap_or(Value::Opaque))
    }

    /// The length in front of a text or of bytes.
    fn length(&mut self, opcode: u8) -> Result<u64, FormatError> {
        Ok(match opcode {
            0x8c | b'U' | b'C' => self.window.u8()?.into(),
            b'X' | b'B' => self.window.u32()?.into(),
            b'T' => match u64::try_from(self.window.u32()?.cast_signed()) {
                Ok(length) => length,
                Err(_) => return Err(self.malformed("a text has a negative length")),
            },
            _ => self.window.u64()?,
        })
    }

    /// Text is kept as far as it is worth it; bytes that are no UTF-8 are shown as such.
    fn text(&mut self, opcode: u8) -> Result<(), FormatError> {
        let text = match opcode {
            b'V' => unescape(&self.window.line(LINE_BYTES_MAX)?, Escapes::Unicode),
            b'S' => {
                let line = self.window.line(LINE_BYTES_MAX)?;
                let line = line.trim_ascii();
                let inner = line.get(1..line.len().saturating_sub(1)).unwrap_or_default();
                unescape(inner, Escapes::String)
            }
            _ => {
                let count = self.length(opcode)?;
                let kept = count.min(TEXT_BYTES_MAX as u64);
                let bytes = self.window.bytes(usize::try_from(kept).expect("at most 4 KiB"))?;
                self.window.skip(count - kept)?;
                String::from_utf8_lossy(&bytes).into_owned()
            }
        };
        let value = self.heap.text(&text)?;
        self.push(value)
    }

    fn arrange(&mut self, opcode: u8) -> Result<(), FormatError> {
        match opcode {
            b'(' => {
                if self.marks.len() >= MARKS_MAX {
                    return Err(over("marks in a pickle", MARKS_MAX as u64, MARKS_MAX as u64 + 1));
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            _ => {
                let top = self.top()?;
                self.push(top)
            }
        }
    }

    fn remember(&mut self, opcode: u8) -> Result<(), FormatError> {
        let number = match opcode {
            0x94 => self.memo_count as u64,
            b'q' | b'h' => self.window.u8()?.into(),
            b'r' | b'j' => self.window.u32()?.into(),
            _ => {
                let line = self.window.line(LINE_BYTES_MAX)?;
                // Python reads `1_0` as 10.
                let number = std::str::from_utf8(&line).ok().and_then(|text| text.trim().replace('_', "").parse().ok());
                number.ok_or_else(|| self.malformed("a number of the memo is none"))?
            }
        };
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        if matches!(opcode, b'g' | b'h' | b'j') {
            return match self.memo.get(index) {
                None | Some(Value::Unset) => Err(self.malformed("it refers to a value it has not made")),
                Some(&value) => self.push(value),
            };
        }
        if index >= MEMO_MAX {
            return Err(over("values in the memo", MEMO_MAX as u64, number.saturating_add(1)));
        }
        let value = self.top()?;
        if index >= self.memo.len() {
            self.memo.resize(index + 1, Value::Unset);
        }
        if std::mem::replace(&mut self.memo[index], value) == Value::Unset {
            self.memo_count += 1;
        }
        Ok(())
    }

    fn make(&mut self, opcode: u8) -> Result<(), FormatError> {
        let value = match opcode {
            b')' => self.heap.node(Kind::Tuple, Vec::new())?,
            b']' => self.heap.node(Kind::List, Vec::new())?,
            b'}' => self.heap.node(Kind::Dict, Vec::new())?,
            0x8f => Value::Opaque,
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.heap.node(Kind::Tuple, items)?
            }
            _ => {
                let items = self.pop_mark()?;
                match opcode {
                    b't' => self.heap.node(Kind::Tuple, items)?,
                    b'l' => self.heap.node(Kind::List, items)?,
                    b'd' => self.heap.node(Kind::Dict, items)?,
                    _ => Value::Opaque,
                }
            }
        };
        self.push(value)
    }

    fn change(&mut self, opcode: u8) -> Result<(), FormatError> {
        let items = match opcode {
            b'a' | b'b' => self.pop_many(1)?,
            b's' => self.pop_many(2)?,
            _ => self.pop_mark()?,
        };
        let target = self.top()?;
        if matches!(opcode, b'a' | b'e' | 0x90) {
            self.heap.mark_appended(target);
        }
        match opcode {
            b'a' | b'e' => self.heap.extend(target, &items, false),
            b's' | b'u' => self.heap.extend(target, &items[..items.len() & !1], true),
            b'b' => self.heap.set_state(target, items[0]),
            _ => Ok(()),
        }
    }

    fn call(&mut self, opcode: u8) -> Result<(), FormatError> {
        let value = match opcode {
            b'c' => {
                let (module, name) = self.import_lines()?;
                self.heap.import(&module, &name)?
            }
            0x93 => {
                let [module, name] = [1, 0].map(|depth| self.stack.iter().rev().nth(depth).copied());
                self.pop_many(2)?;
                let shown = |value: Option<Value>| match value {
                    Some(Value::Text(text)) => shown_name(self.heap.text_of(text)).to_owned(),
                    _ => "?".to_owned(),
                };
                let (module, name) = (shown(module), shown(name));
                self.heap.import(&module, &name)?
            }
            0x82..=0x84 => {
                let number = match opcode {
                    0x82 => self.window.u8()?.into(),
                    0x83 => self.window.u16()?.into(),
                    _ => self.window.u32()?,
                };
                self.heap.import("copyreg", &format!("extension_{number}"))?
            }
            b'R' => {
                let items = self.pop_many(2)?;
                self.heap.mark_called(items[0], items[1]);
                self.heap.call(items[0], items[1])?
            }
            0x81 | 0x92 => {
                let items = self.pop_many(if opcode == 0x81 { 2 } else { 3 })?;
                self.heap.call(items[0], items[1])?
            }
            b'i' => {
                let (module, name) = self.import_lines()?;
                let class = self.heap.import(&module, &name)?;
                let arguments = self.pop_mark()?;
                let arguments = self.heap.node(Kind::Tuple, arguments)?;
                self.heap.mark_called(class, arguments);
                self.heap.call(class, arguments)?
            }
            b'o' => {
                let mut arguments = self.pop_mark()?;
                if arguments.is_empty() {
                    return Err(self.malformed("an object has no class"));
                }
                let class = arguments.remove(0);
                let arguments = self.heap.node(Kind::Tuple, arguments)?;
                self.heap.mark_called(class, arguments);
                self.heap.call(class, arguments)?
            }
            b'Q' => {
                let id = self.pop()?;
                self.heap.persistent(id)?
            }
            _ => {
                self.window.line(LINE_BYTES_MAX)?;
                Value::Opaque
            }
        };
        self.push(value)
    }

    fn import_lines(&mut self) -> Result<(String, String), FormatError> {
        let module = self.window.line(LINE_BYTES_MAX)?;
        let name = self.window.line(LINE_BYTES_MAX)?;
        let shown = |bytes: &[u8]| shown_name(&String::from_utf8_lossy(bytes)).to_owned();
        Ok((shown(&module), shown(&name)))
    }

    fn push(&mut self, value: Value) -> Result<(), FormatError> {
        if self.stack.len() >= STACK_MAX {
            return Err(over("values on the stack of a pickle", STACK_MAX as u64, STACK_MAX as u64 + 1));
        }
        self.stack.push(value);
        Ok(())
    }

    /// How far the stack may be taken down: to the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value, FormatError> {
        let above_mark = self.stack.get(self.floor()..).and_then(|values| values.last());
        above_mark.copied().ok_or_else(|| self.malformed("its stack is empty"))
    }

    fn pop(&mut self) -> Result<Value, FormatError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, FormatError> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
        let start = start.ok_or_else(|| self.malformed("its stack is empty"))?;
        Ok(self.stack.split_off(start))
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, FormatError> {
        let start = self.marks.pop().ok_or_else(|| self.malformed("it has no mark to go back to"))?;
        Ok(self.stack.split_off(start))
    }

    fn malformed(&self, reason: impl std::fmt::Display) -> FormatError {
        FormatError::malformed(self.format, reason)
    }
}

/// A name of an import as it is reported.
fn shown_name(name: &str) -> &str {
    crate::formats::limits::cut(name, IMPORT_BYTES_MAX)
}

/// How the text of an old opcode is written.
#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    /// `V`: only `\uXXXX` and `\UXXXXXXXX`, in Latin-1.
    Unicode,
    /// `S`: as in Python source.
    String,
}

fn unescape(mut bytes: &[u8], escapes: Escapes) -> String {
    let mut text = String::new();
    while let Some((&first, rest)) = bytes.split_first() {
        let escape = if first == b'\\' { rest.first().copied() } else { None };
        let (shown, consumed) = match (escapes, escape) {
            (Escapes::Unicode, Some(b'u')) => number_at(rest, 1, 4, 16),
            (Escapes::Unicode, Some(b'U')) => number_at(rest, 1, 8, 16),
            (Escapes::String, Some(b'x')) => number_at(rest, 1, 2, 16),
            (Escapes::String, Some(b'0'..=b'7')) => number_at(rest, 0, 3, 8),
            (Escapes::String, Some(letter)) => {
                let control = match letter {
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    other => char::from(other),
                };
                (control, 1)
            }
            _ => (char::from(first), 0),
        };
        text.push(shown);
        bytes = &rest[consumed..];
    }
    text
}

/// The character whose number has up to `digits` digits from `start` on, and where it ends.
fn number_at(bytes: &[u8], start: usize, digits: usize, radix: u32) -> (char, usize) {
    let mut number = 0;
    let mut end = start;
    while end < bytes.len() && end < start + digits {
        let Some(digit) = char::from(bytes[end]).to_digit(radix) else { break };
        number = number * radix + digit;
        end += 1;
    }
    (char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER), end)
}
