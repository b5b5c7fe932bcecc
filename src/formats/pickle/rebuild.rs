//! Which imports torch and numpy use to put tensors together, and what they would make.
//!
//! Invariant: a call that is not known, or whose arguments are not as expected, makes an object nobody looks into.
//! Not here: whether an import is dangerous (`classify`).

use super::heap::{Heap, Kind, Value};
use crate::formats::FormatError;
use crate::formats::limits::RANK_MAX;

/// One element type: a row of `DTYPES`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::formats) struct Dtype(u8);

struct Row {
    word: &'static str,
    /// Bytes in one element of a storage; zero where it is not known.
    size_bytes: u64,
    /// `torch.<name>`
    torch: &'static str,
    /// `torch.<name>Storage`
    storage: &'static str,
    /// Kind and width of `numpy.dtype`.
    numpy: &'static str,
}

const fn row(
    word: &'static str,
    size_bytes: u64,
    torch: &'static str,
    storage: &'static str,
    numpy: &'static str,
) -> Row {
    Row { word, size_bytes, torch, storage, numpy }
}

const DTYPES: &[Row] = &[
    row("UNKNOWN", 0, "", "", ""),
    row("RAW", 1, "", "Untyped", ""),
    row("F32", 4, "float32", "Float", "f4"),
    row("F16", 2, "float16", "Half", "f2"),
    row("BF16", 2, "bfloat16", "BFloat16", ""),
    row("F64", 8, "float64", "Double", "f8"),
    row("U8", 1, "uint8", "Byte", "u1"),
    row("I8", 1, "int8", "Char", "i1"),
    row("I16", 2, "int16", "Short", "i2"),
    row("I32", 4, "int32", "Int", "i4"),
    row("I64", 8, "int64", "Long", "i8"),
    row("BOOL", 1, "bool", "Bool", "b1"),
    row("C64", 8, "complex64", "ComplexFloat", "c8"),
    row("C128", 16, "complex128", "ComplexDouble", "c16"),
    row("C32", 4, "complex32", "ComplexHalf", ""),
    row("U16", 2, "uint16", "", "u2"),
    row("U32", 4, "uint32", "", "u4"),
    row("U64", 8, "uint64", "", "u8"),
    row("F8_E4M3", 1, "float8_e4m3fn", "", ""),
    row("F8_E5M2", 1, "float8_e5m2", "", ""),
    row("F8_E4M3FNUZ", 1, "float8_e4m3fnuz", "", ""),
    row("F8_E5M2FNUZ", 1, "float8_e5m2fnuz", "", ""),
    row("F8_E8M0", 1, "float8_e8m0fnu", "", ""),
    row("F4", 1, "float4_e2m1fn_x2", "", ""),
    row("QU8", 1, "quint8", "QUInt8", ""),
    row("QI8", 1, "qint8", "QInt8", ""),
    row("QI32", 4, "qint32", "QInt32", ""),
    row("QU4X2", 1, "quint4x2", "QUInt4x2", ""),
    row("QU2X4", 1, "quint2x4", "QUInt2x4", ""),
];

const UNKNOWN: Dtype = Dtype(0);
const RAW: Dtype = Dtype(1);

impl Dtype {
    fn find(matches: impl Fn(&Row) -> bool) -> Option<Self> {
        DTYPES.iter().position(matches).map(|index| Self(index as u8))
    }

    fn of_torch(name: &str) -> Option<Self> {
        Self::find(|row| !row.torch.is_empty() && row.torch == name)
    }

    fn of_storage(name: &str) -> Self {
        Self::find(|row| !row.storage.is_empty() && row.storage == name).unwrap_or(UNKNOWN)
    }

    fn of_numpy(name: &str) -> Self {
        let name = name.trim_start_matches(['<', '>', '=', '|']);
        Self::find(|row| !row.numpy.is_empty() && row.numpy == name).unwrap_or(UNKNOWN)
    }

    pub(super) fn word(self) -> &'static str {
        DTYPES[self.0 as usize].word
    }

    pub(super) fn size_bytes(self) -> u64 {
        DTYPES[self.0 as usize].size_bytes
    }
}

/// What calling an import would make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Unknown,
    Dtype(Dtype),
    Storage(Dtype),
    Dict,
    List,
    /// Its first argument: parameters around tensors, type tags of TorchScript.
    First,
    /// `(storage, offset, size, stride, …)`
    Tensor,
    /// The same with the dtype as the seventh argument.
    TypedTensor,
    /// `(function, type, arguments, state)`: the function is called with the arguments.
    FromType,
    /// `(layout, (…, values, size, …))`
    Sparse,
    /// `(dtype, size, …)`
    Meta,
    /// `(class, dtype, size, …)`
    Wrapper,
    NumpyDtype,
    /// Its dtype and shape come with `BUILD`.
    NumpyArray,
    /// A class of TorchScript, whose state holds its parameters and modules under their own names.
    Script,
}

impl Role {
    pub(super) fn of(name: &str) -> Self {
        let role = match name {
            "collections.OrderedDict"
            | "collections.defaultdict"
            | "collections.Counter"
            | "builtins.dict"
            | "__builtin__.dict" => Self::Dict,
            "torch.Size" | "builtins.list" | "__builtin__.list" | "builtins.tuple" | "__builtin__.tuple" => Self::List,
            "torch._utils._rebuild_parameter"
            | "torch._utils._rebuild_parameter_with_state"
            | "torch.nn.parameter.Parameter"
            | "torch.nn.parameter.Buffer"
            | "torch.jit._pickle.restore_type_tag"
            | "torch.jit._pickle.build_intlist"
            | "torch.jit._pickle.build_tensorlist"
            | "torch.jit._pickle.build_doublelist"
            | "torch.jit._pickle.build_boollist" => Self::First,
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_qtensor" => {
                Self::Tensor
            }
            "torch._utils._rebuild_tensor_v3" => Self::TypedTensor,
            "torch._tensor._rebuild_from_type"
            | "torch._tensor._rebuild_from_type_v2"
            | "torch.tensor._rebuild_from_type" => Self::FromType,
            "torch._utils._rebuild_sparse_tensor" | "torch._utils._rebuild_sparse_csr_tensor" => Self::Sparse,
            "torch._utils._rebuild_meta_tensor_no_storage" => Self::Meta,
            "torch._utils._rebuild_wrapper_subclass" => Self::Wrapper,
            "numpy.dtype" => Self::NumpyDtype,
            "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct" => Self::NumpyArray,
            _ => Self::Unknown,
        };
        if role != Self::Unknown {
            return role;
        }
        if name.starts_with("__torch__.") {
            return Self::Script;
        }
        if let Some(class) = name.strip_prefix("torch.") {
            if let Some(storage) = class.rsplit('.').next().and_then(|class| class.strip_suffix("Storage")) {
                return Self::Storage(Dtype::of_storage(storage));
            }
            return Dtype::of_torch(class).map_or(Self::Unknown, Self::Dtype);
        }
        Self::Unknown
    }
}

/// Which of its arguments an import calls, and which one holds the arguments for that, where it is one.
pub(super) fn called_in_turn(name: &str) -> Option<(usize, Option<usize>)> {
    match name {
        "torch._tensor._rebuild_from_type"
        | "torch._tensor._rebuild_from_type_v2"
        | "torch.tensor._rebuild_from_type" => Some((0, Some(2))),
        // The base, with the state.
        "copyreg._reconstructor" | "copy_reg._reconstructor" => Some((1, None)),
        // A type, or what makes one of a name.
        "numpy.random._pickle.__bit_generator_ctor" => Some((0, None)),
        "numpy.random._pickle.__generator_ctor" | "numpy.random._pickle.__randomstate_ctor" => Some((1, None)),
        "collections.defaultdict" => Some((0, None)),
        _ => None,
    }
}

/// Longest row of `FromType` calls inside each other that is followed; torch writes one.
const FROM_TYPE_MAX: usize = 4;

/// Most members of a sparse tensor looked at: a compressed one has four.
const SPARSE_PARTS_MAX: usize = 8;

impl Heap {
    /// What `callee(*arguments)` would make.
    pub(super) fn call(&mut self, mut callee: Value, mut arguments: Value) -> Result<Value, FormatError> {
        for _ in 0..FROM_TYPE_MAX {
            if self.role(callee) != Role::FromType {
                break;
            }
            (callee, arguments) = (self.member(arguments, 0), self.member(arguments, 2));
        }
        let argument = |index| self.member(arguments, index);
        let made = match self.role(callee) {
            Role::Dict => return self.new_dict(argument(0)),
            Role::List => {
                let members = self.members(argument(0)).to_vec();
                return self.node(Kind::List, members);
            }
            Role::First => argument(0),
            Role::Tensor => self.stored_tensor(argument(0), None, argument(2))?,
            Role::TypedTensor => self.stored_tensor(argument(0), Some(argument(6)), argument(2))?,
            Role::Sparse => {
                // The size is the first member that is a row of lengths, the values are the tensor before it.
                let parts = self.members(argument(1));
                let size = parts.iter().take(SPARSE_PARTS_MAX).position(|part| matches!(part, Value::Node(_)));
                let before = size.and_then(|size| size.checked_sub(1)).map(|values| parts[values]);
                match (before, size.map(|size| parts[size])) {
                    (Some(Value::Tensor(values)), Some(size)) => self.shaped(self.tensor_of(values).0, size)?,
                    _ => Value::Opaque,
                }
            }
            Role::Meta => self.typed(argument(0), argument(1))?,
            Role::Wrapper => self.typed(argument(1), argument(2))?,
            Role::NumpyDtype => Value::Dtype(self.as_text(argument(0)).map_or(UNKNOWN, Dtype::of_numpy)),
            Role::Unknown | Role::Dtype(_) | Role::Storage(_) | Role::FromType | Role::NumpyArray | Role::Script => {
                Value::Opaque
            }
        };
        match made {
            Value::Opaque => self.node(Kind::Object(self.role(callee)), Vec::new()),
            made => Ok(made),
        }
    }

    /// The object behind a persistent id: `('storage', class, key, location, elements, …)`, `('module', class, …)`.
    pub(super) fn persistent(&mut self, id: Value) -> Result<Value, FormatError> {
        match self.as_text(self.member(id, 0)) {
            Some("storage") => {}
            Some("module") => return Ok(self.member(id, 1)),
            _ => return Ok(Value::Opaque),
        }
        let dtype = match self.role(self.member(id, 1)) {
            Role::Storage(dtype) => dtype,
            _ => UNKNOWN,
        };
        match (self.member(id, 2), self.member(id, 4)) {
            (Value::Text(key), Value::Int(elements)) => self.storage(key, dtype, elements.max(0).cast_unsigned()),
            _ => Ok(Value::Opaque),
        }
    }

    /// A dict of the pairs in a list, or of what is in another dict.
    fn new_dict(&mut self, from: Value) -> Result<Value, FormatError> {
        // Charged even where nothing is kept, so that looking through one list again and again ends.
        self.charge(size_of_val(self.members(from)))?;
        let mut items: Vec<Value> = self.entries(from).flat_map(|(key, value)| [key, value]).collect();
        for &pair in self.members(from) {
            if let [key, value] = *self.members(pair) {
                items.extend([key, value]);
            }
        }
        self.node(Kind::Dict, items)
    }

    fn stored_tensor(&mut self, storage: Value, dtype: Option<Value>, size: Value) -> Result<Value, FormatError> {
        let stored = match storage {
            Value::Storage(index) => self.dtype_of(index),
            _ => UNKNOWN,
        };
        match dtype {
            Some(Value::Dtype(dtype)) if stored == RAW || stored == UNKNOWN => self.shaped(dtype, size),
            _ => self.shaped(stored, size),
        }
    }

    fn typed(&mut self, dtype: Value, size: Value) -> Result<Value, FormatError> {
        match dtype {
            Value::Dtype(dtype) => self.shaped(dtype, size),
            _ => Ok(Value::Opaque),
        }
    }

    fn shaped(&mut self, dtype: Dtype, size: Value) -> Result<Value, FormatError> {
        match self.lengths(size) {
            Some(lengths) => self.tensor(dtype, &lengths),
            None => Ok(Value::Opaque),
        }
    }

    /// A tuple of lengths, if it is one of a possible rank.
    pub(super) fn lengths(&self, size: Value) -> Option<Vec<u64>> {
        let Value::Node(_) = size else { return None };
        let members = self.members(size);
        let length = |value: &Value| match value {
            Value::Int(length) => u64::try_from(*length).ok(),
            _ => None,
        };
        (members.len() <= RANK_MAX).then(|| members.iter().map(length).collect()).flatten()
    }
}
