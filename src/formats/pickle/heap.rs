//! The inert values of a pickle, in one arena that counts what it costs.
//!
//! Invariants: a `Value` is small and copied freely, containers are shared by their index as they are in the pickle;
//! nothing is added beyond `HEAP_BYTES_MAX`. Not here: where values come from (`machine`), what calls mean (`rebuild`).

use std::collections::HashMap;

use super::rebuild::{Dtype, Role, called_in_turn};
use super::{HEAP_BYTES_MAX, TEXT_BYTES_MAX};
use crate::formats::FormatError;
use crate::formats::limits::{cut, over};

/// Attributes of an object that are looked through for one name: the wanted ones of a module are among its first.
const ENTRIES_LOOKED_AT: usize = 256;

/// Calls inside each other that are followed; torch writes two.
const CALLS_IN_TURN_MAX: usize = 8;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::formats) enum Value {
    /// A place of the memo that nothing was put into.
    Unset,
    None,
    Bool(bool),
    Int(i64),
    /// The low 64 bits of a number that has more.
    Long(u64),
    Float(f64),
    Text(Text),
    Dtype(Dtype),
    Global(u32),
    Storage(u32),
    Tensor(u32),
    Node(u32),
    /// Bytes, sets, and whatever cannot be known without running something.
    Opaque,
}

/// A text in the pool of its heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::formats) struct Text {
    start: u32,
    length: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Tuple,
    List,
    /// Keys and values alternate in `items`.
    Dict,
    /// What a call that is not known would make; `items` are as of a `Dict`.
    Object(Role),
}

pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) items: Vec<Value>,
}

pub(super) struct Global {
    /// `module.name`
    pub(super) name: Box<str>,
    pub(super) role: Role,
    /// Whether it is called, not only named or made anew without its constructor.
    called: bool,
}

/// A row of bytes that lies outside the pickle.
pub(in crate::formats) struct Storage {
    pub(in crate::formats) key: Text,
    pub(super) dtype: Dtype,
    pub(super) elements: u64,
}

impl Storage {
    /// At least this many bytes; `None` when the number does not fit.
    pub(in crate::formats) fn size_bytes(&self) -> Option<u64> {
        self.elements.checked_mul(self.dtype.size_bytes())
    }
}

pub(super) struct TensorFacts {
    pub(super) dtype: Dtype,
    shape_start: u32,
    rank: u32,
}

#[derive(Default)]
pub(in crate::formats) struct Heap {
    pub(super) nodes: Vec<Node>,
    /// By the index of what was given one: few were.
    states: HashMap<u32, Value>,
    pub(super) globals: Vec<Global>,
    global_numbers: HashMap<Box<str>, u32>,
    storages: Vec<Storage>,
    tensors: Vec<TensorFacts>,
    lengths: Vec<u64>,
    texts: String,
    is_twisted: bool,
    cost_bytes: usize,
}

impl Heap {
    /// Vectors grow by doubling, so everything is charged twice.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), FormatError> {
        self.cost_bytes = self.cost_bytes.saturating_add(bytes.saturating_mul(2));
        if self.cost_bytes > HEAP_BYTES_MAX {
            return Err(over("bytes of values in a pickle", HEAP_BYTES_MAX as u64, self.cost_bytes as u64));
        }
        Ok(())
    }

    pub(super) fn text(&mut self, text: &str) -> Result<Value, FormatError> {
        let text = cut(text, TEXT_BYTES_MAX);
        self.charge(text.len())?;
        let start = self.texts.len() as u32;
        self.texts.push_str(text);
        Ok(Value::Text(Text { start, length: text.len() as u32 }))
    }

    pub(in crate::formats) fn text_of(&self, text: Text) -> &str {
        &self.texts[text.start as usize..][..text.length as usize]
    }

    /// The text a value is, if it is one.
    pub(super) fn as_text(&self, value: Value) -> Option<&str> {
        match value {
            Value::Text(text) => Some(self.text_of(text)),
            _ => None,
        }
    }

    pub(super) fn node(&mut self, kind: Kind, items: Vec<Value>) -> Result<Value, FormatError> {
        self.charge(size_of::<Node>() + size_of_val(items.as_slice()) / 2)?;
        self.nodes.push(Node { kind, items });
        Ok(Value::Node(self.nodes.len() as u32 - 1))
    }

    /// Adds to a list, or keys and values to a dict or an object; anything else takes nothing.
    pub(super) fn extend(&mut self, target: Value, items: &[Value], as_entries: bool) -> Result<(), FormatError> {
        let Value::Node(index) = target else { return Ok(()) };
        self.charge(size_of_val(items))?;
        let node = &mut self.nodes[index as usize];
        let takes = match node.kind {
            Kind::List => !as_entries,
            Kind::Dict | Kind::Object(_) => as_entries,
            Kind::Tuple => false,
        };
        if takes {
            node.items.extend_from_slice(items);
        }
        Ok(())
    }

    /// The members of a tuple or list; empty for anything else.
    pub(in crate::formats) fn members(&self, value: Value) -> &[Value] {
        match value {
            Value::Node(index) => match &self.nodes[index as usize] {
                Node { kind: Kind::Tuple | Kind::List, items, .. } => items,
                _ => &[],
            },
            _ => &[],
        }
    }

    /// The member at `index` of a tuple or list, opaque where there is none.
    pub(super) fn member(&self, value: Value, index: usize) -> Value {
        self.members(value).get(index).copied().unwrap_or(Value::Opaque)
    }

    /// The keys and values of a dict; empty for anything else.
    pub(super) fn entries(&self, value: Value) -> impl Iterator<Item = (Value, Value)> + '_ {
        let items: &[Value] = match value {
            Value::Node(index) if self.nodes[index as usize].kind == Kind::Dict => &self.nodes[index as usize].items,
            _ => &[],
        };
        items.chunks_exact(2).map(|pair| (pair[0], pair[1]))
    }

    /// What a small dict holds under a text; the last one counts.
    pub(in crate::formats) fn get(&self, dict: Value, key: &str) -> Option<Value> {
        let looked_at = self.entries(dict).take(ENTRIES_LOOKED_AT);
        looked_at.filter(|(name, _)| self.as_text(*name) == Some(key)).last().map(|(_, value)| value)
    }

    /// What `BUILD` would give to `__setstate__` of an object, which it looks for in the object itself.
    pub(super) fn set_state(&mut self, target: Value, state: Value) -> Result<(), FormatError> {
        let Value::Node(index) = target else {
            self.is_twisted = true;
            return Ok(());
        };
        if self.states.insert(index, state).is_some() {
            self.is_twisted = true;
            return Ok(());
        }
        self.charge(2 * size_of::<(u32, Value)>())
    }

    pub(super) fn state(&self, node: u32) -> Value {
        self.states.get(&node).copied().unwrap_or(Value::Unset)
    }

    /// The import `module.name`, kept once; a dtype of torch is known by its name alone.
    pub(super) fn import(&mut self, module: &str, name: &str) -> Result<Value, FormatError> {
        let number = self.global(format!("{module}.{name}").into_boxed_str())?;
        Ok(match self.globals[number as usize].role {
            Role::Dtype(dtype) => Value::Dtype(dtype),
            _ => Value::Global(number),
        })
    }

    /// Every `module.name` that is imported, in the order of the pickle.
    pub(in crate::formats) fn imports(&self) -> impl Iterator<Item = &str> {
        self.globals.iter().map(|global| &*global.name)
    }

    /// Those of them that are called, unless `rebuild` knows what that makes.
    pub(super) fn calls(&self) -> impl Iterator<Item = &str> {
        let called = self.globals.iter().filter(|global| global.called && global.role == Role::Unknown);
        called.map(|global| &*global.name)
    }

    /// Whether something is called, or changed once it is whole, that no writer would: a way to calls nobody sees.
    pub(super) const fn is_twisted(&self) -> bool {
        self.is_twisted
    }

    /// Notes that members are added to an object, which looks for its own attribute to do so.
    pub(super) fn mark_appended(&mut self, target: Value) {
        self.is_twisted |= matches!(target, Value::Node(index) if self.states.contains_key(&index));
    }

    /// Notes that `callee(*arguments)` is called, and what some callees call in turn.
    pub(super) fn mark_called(&mut self, callee: Value, arguments: Value) {
        let (mut callee, mut arguments) = (callee, arguments);
        for _ in 0..CALLS_IN_TURN_MAX {
            let Value::Global(number) = callee else {
                self.is_twisted |= matches!(callee, Value::Node(_));
                return;
            };
            let global = &mut self.globals[number as usize];
            global.called = true;
            let Some((called, with)) = called_in_turn(&global.name) else { return };
            (callee, arguments) =
                (self.member(arguments, called), with.map_or(Value::Opaque, |with| self.member(arguments, with)));
        }
    }

    fn global(&mut self, name: Box<str>) -> Result<u32, FormatError> {
        if let Some(&number) = self.global_numbers.get(&name) {
            return Ok(number);
        }
        self.charge(size_of::<Global>() + 32 + name.len())?;
        let number = self.globals.len() as u32;
        self.globals.push(Global { role: Role::of(&name), name: name.clone(), called: false });
        self.global_numbers.insert(name, number);
        Ok(number)
    }

    pub(super) fn role(&self, callee: Value) -> Role {
        match callee {
            Value::Global(number) => self.globals[number as usize].role,
            _ => Role::Unknown,
        }
    }

    pub(super) fn storage(&mut self, key: Text, dtype: Dtype, elements: u64) -> Result<Value, FormatError> {
        self.charge(size_of::<Storage>())?;
        self.storages.push(Storage { key, dtype, elements });
        Ok(Value::Storage(self.storages.len() as u32 - 1))
    }

    pub(in crate::formats) fn storages(&self) -> &[Storage] {
        &self.storages
    }

    pub(super) fn tensor(&mut self, dtype: Dtype, shape: &[u64]) -> Result<Value, FormatError> {
        self.charge(size_of::<TensorFacts>() + size_of_val(shape))?;
        let shape_start = self.lengths.len() as u32;
        self.lengths.extend_from_slice(shape);
        self.tensors.push(TensorFacts { dtype, shape_start, rank: shape.len() as u32 });
        Ok(Value::Tensor(self.tensors.len() as u32 - 1))
    }

    pub(super) fn tensor_of(&self, index: u32) -> (Dtype, &[u64]) {
        let facts = &self.tensors[index as usize];
        (facts.dtype, &self.lengths[facts.shape_start as usize..][..facts.rank as usize])
    }

    /// The element type of a storage.
    pub(super) fn dtype_of(&self, storage: u32) -> Dtype {
        self.storages[storage as usize].dtype
    }
}
