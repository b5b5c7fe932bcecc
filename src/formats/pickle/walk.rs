//! Turns the value a pickle leaves into names, shapes and metadata.
//!
//! A name is the row of keys that leads to a tensor, joined with `.`; members of lists and tuples count from zero, a
//! tensor that is alone is called `tensor`. Whole modules are walked by `_parameters`, `_buffers` and `_modules`.
//! Invariants: no container is entered twice, so cycles and repeated references end; names are unique, the first one
//! counts. Not here: what the names mean.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};

use super::heap::{Heap, Kind, Value};
use super::rebuild::Role;
use crate::formats::FormatError;
use crate::formats::limits::{Collector, cut};

/// Deepest nesting looked into: whole modules have about 20 levels.
const DEPTH_MAX: usize = 100;

/// Longest name: real ones have 200 bytes.
const NAME_BYTES_MAX: usize = 4 << 10;

/// Most scalars kept of the outermost dict, and of the dicts inside it: counters and settings of a training.
const SCALARS_MAX: usize = 512;
const INNER_SCALARS_MAX: usize = 256;

/// Longest scalar kept.
const SCALAR_BYTES_MAX: usize = 1 << 10;

/// Adds every import, tensor and outer scalar to `facts`.
pub(in crate::formats) fn collect(heap: &Heap, root: Value, facts: &mut Collector) -> Result<(), FormatError> {
    heap.imports().try_for_each(|name| facts.import(name.to_owned()))?;
    // Functions are there to be called.
    let is_class = |name: &&str| {
        let class = name.rsplit('.').next().unwrap_or_default();
        class.trim_start_matches('_').starts_with(|first: char| first.is_ascii_uppercase())
    };
    heap.calls().filter(is_class).try_for_each(|name| facts.import(format!("{name}()")))?;
    if heap.is_twisted() {
        facts.note("it calls an object, or changes one that was made already")?;
    }
    let mut walk = Walk {
        heap,
        facts,
        name: String::new(),
        entered: vec![false; heap.nodes.len()],
        names: HashSet::new(),
        hasher: RandomState::new(),
        scalars_left: [SCALARS_MAX, INNER_SCALARS_MAX],
        too_deep: false,
    };
    if matches!(root, Value::Tensor(_)) {
        walk.name.push_str("tensor");
    }
    walk.value(root, 0)?;
    if walk.too_deep {
        facts.note(&format!("it is nested deeper than {DEPTH_MAX} levels or has longer names than {NAME_BYTES_MAX} bytes; the rest is left out"))?;
    }
    Ok(())
}

struct Walk<'a> {
    heap: &'a Heap,
    facts: &'a mut Collector,
    /// The keys that lead here.
    name: String,
    /// By the index of the node.
    entered: Vec<bool>,
    /// Hashes of the names given.
    names: HashSet<u64>,
    hasher: RandomState,
    scalars_left: [usize; 2],
    too_deep: bool,
}

impl Walk<'_> {
    fn value(&mut self, value: Value, depth: usize) -> Result<(), FormatError> {
        match value {
            Value::Tensor(index) => {
                let (dtype, shape) = self.heap.tensor_of(index);
                self.tensor(dtype.word(), shape)
            }
            Value::Node(index) if depth < DEPTH_MAX => {
                if std::mem::replace(&mut self.entered[index as usize], true) {
                    return Ok(());
                }
                self.node(index, depth)
            }
            Value::Node(_) => {
                self.too_deep = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn node(&mut self, index: u32, depth: usize) -> Result<(), FormatError> {
        let node = &self.heap.nodes[index as usize];
        match node.kind {
            Kind::Tuple | Kind::List => {
                for (index, &member) in node.items.iter().enumerate() {
                    if matches!(member, Value::Node(_) | Value::Tensor(_)) {
                        self.under(Value::Int(index as i64), member, depth)?;
                    }
                }
                Ok(())
            }
            Kind::Dict => self.entries(&node.items, depth),
            Kind::Object(role) => {
                self.entries(&node.items, depth)?;
                self.object(role, self.heap.state(index), depth)
            }
        }
    }

    fn entries(&mut self, items: &[Value], depth: usize) -> Result<(), FormatError> {
        for pair in items.chunks_exact(2) {
            match pair[1] {
                Value::Node(_) | Value::Tensor(_) => self.under(pair[0], pair[1], depth)?,
                scalar => self.scalar(pair[0], scalar, depth)?,
            }
        }
        Ok(())
    }

    /// An object is looked into only where its state is known to hold tensors.
    fn object(&mut self, role: Role, state: Value, depth: usize) -> Result<(), FormatError> {
        let heap = self.heap;
        if role == Role::NumpyArray {
            let shape = heap.lengths(heap.member(state, 1));
            if let (Some(shape), Value::Dtype(dtype)) = (shape, heap.member(state, 2)) {
                self.tensor(dtype.word(), &shape)?;
            }
            return Ok(());
        }
        // Classes with slots have a pair of states.
        let state = if heap.members(state).is_empty() { state } else { heap.member(state, 0) };
        if role == Role::Script {
            return self.value(state, depth + 1);
        }
        for part in ["_parameters", "_buffers", "_modules"] {
            if let Some(members) = heap.get(state, part) {
                self.value(members, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Goes on one key further down.
    fn under(&mut self, key: Value, value: Value, depth: usize) -> Result<(), FormatError> {
        let outer_length = self.name.len();
        self.push_key(key);
        let is_too_long = self.name.len() > NAME_BYTES_MAX;
        self.too_deep |= is_too_long;
        let outcome = if is_too_long { Ok(()) } else { self.value(value, depth + 1) };
        self.name.truncate(outer_length);
        outcome
    }

    fn push_key(&mut self, key: Value) {
        if !self.name.is_empty() {
            self.name.push('.');
        }
        match key {
            Value::Text(text) => self.name.push_str(self.heap.text_of(text)),
            other => {
                let shown = shown_scalar(other).unwrap_or_else(|| "?".to_owned());
                self.name.push_str(&shown);
            }
        }
    }

    fn tensor(&mut self, dtype: &str, shape: &[u64]) -> Result<(), FormatError> {
        if self.names.insert(self.hasher.hash_one(&self.name)) {
            self.facts.tensor(&self.name, dtype, shape)?;
        }
        Ok(())
    }

    fn scalar(&mut self, key: Value, value: Value, depth: usize) -> Result<(), FormatError> {
        let Some(left) = self.scalars_left.get_mut(depth).filter(|left| **left > 0) else { return Ok(()) };
        let shown = match value {
            Value::Text(text) => cut(self.heap.text_of(text), SCALAR_BYTES_MAX).to_owned(),
            other => match shown_scalar(other) {
                Some(shown) => shown,
                None => return Ok(()),
            },
        };
        *left -= 1;
        let outer_length = self.name.len();
        self.push_key(key);
        let outcome = self.facts.metadata(&self.name, &shown);
        self.name.truncate(outer_length);
        outcome
    }
}

/// A number or truth value as text.
fn shown_scalar(value: Value) -> Option<String> {
    let mut shown = String::new();
    let written = match value {
        Value::Bool(value) => write!(shown, "{value}"),
        Value::Int(value) => write!(shown, "{value}"),
        Value::Float(value) => write!(shown, "{value}"),
        Value::Dtype(dtype) => write!(shown, "{}", dtype.word()),
        _ => return None,
    };
    written.expect("writing to a string cannot fail");
    Some(shown)
}
