//! Pickles, read opcode by opcode and never executed.
//!
//! A pickle is a program for a stack machine. `machine` follows it over inert values kept in a `heap`; `rebuild` knows
//! which calls make a tensor; `walk` turns the value at the end into names, shapes and metadata. A call that is not
//! known leaves an opaque object, and every name a real unpickler would import is reported.
//! Invariants: steps, stack, marks, memo and memory have limits that hold whatever the bytes say; nothing follows a
//! reference twice, so cycles end. Not here: the containers around a pickle (`torch`).

mod heap;
mod machine;
mod rebuild;
mod walk;

pub(super) use heap::{Heap, Value};
pub(super) use machine::Machine;
pub(super) use walk::collect;

/// Most memory for values, texts and names: about 30,000 tensors with everything that torch writes around them.
const HEAP_BYTES_MAX: usize = 28 << 20;

/// Longest text kept: names of tensors and settings are shorter, and longer ones say nothing about the model.
const TEXT_BYTES_MAX: usize = 4 << 10;

#[cfg(test)]
pub(super) mod sample;
#[cfg(test)]
mod tests;
