//! Reads just enough of BTF, the kernel's own type information, to answer "at which byte is `struct
//! a.b.c`?" and "what does this tracepoint pass?".
//!
//! This is own code, because the crates that read BTF store every member's name as a separate
//! string (85 MiB for one kernel), and aya keeps its members private. Nothing is trusted: every
//! access is bounds-checked, chains of types are followed a limited number of steps, and
//! inconsistent data is simply not found.
use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const STRUCT: u32 = 4;
const TYPEDEF: u32 = 8;
/// Size of a type without the data of its kind, in bytes.
const TYPE: usize = 12;
/// Size of a member of a struct or union, in bytes.
const MEMBER: usize = 12;
/// Size of a parameter of a function, in bytes.
const PARAMETER: usize = 8;
/// Maximum nesting of typedefs, qualifiers and anonymous members: real kernels need four.
const DEPTH: usize = 16;
/// Maximum number of members to inspect for one name: the largest structs of real kernels have some
/// hundreds.
const STEPS: usize = 20_000;

/// Why type information cannot be read at all.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// The file begins otherwise.
    #[error("not BTF of this machine's byte order")]
    Magic,
    /// It ends before its own lengths say so.
    #[error("cut off at byte {0}")]
    Truncated(usize),
    /// A type of unknown length, so that the next one cannot be found.
    #[error("unknown kind of type {kind} at byte {at}: this kernel is newer than this build")]
    Kind {
        /// Its number.
        kind: u32,
        /// Its first byte.
        at: usize,
    },
}

/// Parsed type information: the raw bytes and the offset of each type.
pub struct Btf<'a> {
    bytes: &'a [u8],
    /// Offset of each type by id; id 0 is `void` and has none.
    types: Vec<usize>,
    /// Ids of structs and typedefs, a fifth of all types; only these are searched by name.
    named: Vec<u32>,
    strings: &'a [u8],
}

/// Offset and size of a struct member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Offset in bytes from the outermost struct.
    pub offset: u32,
    /// Size in bytes; 0 if unknown.
    pub size: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Pointer,
    Struct,
    Union,
    Enum,
    Typedef,
    /// `volatile`, `const`, `restrict` or a type tag.
    Qualifier,
    Prototype,
    Other,
}

#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    kind: Kind,
    length: usize,
    /// Whether members carry a bit-field size in the top byte of their offset.
    bit_fields: bool,
    /// Size in bytes, or the id of the type that this one refers to.
    size_or_type: u32,
}

impl<'a> Btf<'a> {
    /// Finds the types in `bytes`, the content of `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// If the types cannot be told apart.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let word = |at: usize| word(bytes, at).ok_or(BtfError::Truncated(at));
        let magic = bytes.first_chunk::<2>().map(|magic| u16::from_ne_bytes(*magic));
        if magic != Some(MAGIC) {
            return Err(BtfError::Magic);
        }
        let (header, types_at, types_length) = (word(4)?, word(8)?, word(12)?);
        let (strings_at, strings_length) = (word(16)?, word(20)?);
        let header = (header as usize).max(HEADER);
        let part = |at: u32, length: u32| {
            let start = header.saturating_add(at as usize);
            let end = start.saturating_add(length as usize);
            bytes.get(start..end).map(|_| (start, end)).ok_or(BtfError::Truncated(end))
        };
        let (start, end) = part(types_at, types_length)?;
        let (strings, strings_end) = part(strings_at, strings_length)?;
        let strings = bytes.get(strings..strings_end).ok_or(BtfError::Truncated(strings_end))?;
        let (types, named) = find_types(bytes, start, end)?;
        Ok(Self { bytes, types, named, strings })
    }

    /// Resolves `path`, whose first component names a struct: `a.b.c` is member `c` of member `b`
    /// of `struct a`. Searches anonymous members, never through pointers.
    #[must_use]
    pub fn member(&self, path: &str) -> Option<Member> {
        if path.split('.').any(str::is_empty) {
            return None;
        }
        let mut names = path.split('.');
        let structure = names.next()?;
        let mut id = self.find(structure, |kind| kind == Kind::Struct)?;
        let mut bits = 0u32;
        for name in names {
            let (offset, of) = self.member_of(id, name, DEPTH, &mut { STEPS })?;
            bits = bits.checked_add(offset)?;
            id = of;
        }
        bits.is_multiple_of(8).then(|| Member { offset: bits / 8, size: self.size(id) })
    }

    /// The struct to which the `index`th argument of a tracepoint points. `None` if there is no
    /// such tracepoint or argument, or if it is something else.
    #[must_use]
    pub fn tracepoint_argument(&self, tracepoint: &str, index: usize) -> Option<&'a str> {
        let typedef =
            self.find(&format!("btf_trace_{tracepoint}"), |kind| kind == Kind::Typedef)?;
        let prototype = self.pointee(typedef)?;
        // The first parameter is the tracing core's own.
        if prototype.kind != Kind::Prototype || index >= prototype.length.saturating_sub(1) {
            return None;
        }
        let parameter = prototype.at + TYPE + PARAMETER * (index + 1);
        let structure = self.pointee(word(self.bytes, parameter + 4)?)?;
        (structure.kind == Kind::Struct).then(|| self.name(structure.name))?
    }

    fn pointee(&self, id: u32) -> Option<Type> {
        let pointer = self.strip(id)?;
        (pointer.kind == Kind::Pointer).then(|| self.strip(pointer.size_or_type))?
    }

    /// The first struct or typedef of the given name with a kind that `wanted` accepts.
    fn find(&self, name: &str, wanted: impl Fn(Kind) -> bool) -> Option<u32> {
        self.named
            .iter()
            .copied()
            .find(|id| self.get(*id).is_some_and(|t| self.is_named(t.name, name) && wanted(t.kind)))
    }

    fn get(&self, id: u32) -> Option<Type> {
        Type::read(self.bytes, *self.types.get(id as usize)?)
    }

    /// The type behind typedefs and qualifiers.
    fn strip(&self, mut id: u32) -> Option<Type> {
        for _ in 0..DEPTH {
            let found = self.get(id)?;
            if !matches!(found.kind, Kind::Typedef | Kind::Qualifier) {
                return Some(found);
            }
            id = found.size_or_type;
        }
        None
    }

    /// Bit offset and type id of a member, also in anonymous members.
    fn member_of(
        &self,
        id: u32,
        name: &str,
        depth: usize,
        steps: &mut usize,
    ) -> Option<(u32, u32)> {
        let depth = depth.checked_sub(1)?;
        let parent = self.strip(id)?;
        if !matches!(parent.kind, Kind::Struct | Kind::Union) {
            return None;
        }
        (0..parent.length).find_map(|index| {
            *steps = steps.checked_sub(1)?;
            let at = parent.at + TYPE + MEMBER * index;
            let own_name = word(self.bytes, at)?;
            let of = word(self.bytes, at + 4)?;
            let mut offset = word(self.bytes, at + 8)?;
            if parent.bit_fields {
                offset &= 0x00ff_ffff;
            }
            if self.is_named(own_name, name) {
                return Some((offset, of));
            }
            if !self.is_named(own_name, "") {
                return None;
            }
            let (inner, of) = self.member_of(of, name, depth, steps)?;
            Some((offset.checked_add(inner)?, of))
        })
    }

    fn size(&self, id: u32) -> u32 {
        self.strip(id).map_or(0, |found| match found.kind {
            Kind::Int | Kind::Struct | Kind::Union | Kind::Enum => found.size_or_type,
            Kind::Pointer => 8,
            _ => 0,
        })
    }

    fn is_named(&self, at: u32, name: &str) -> bool {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        rest.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    fn name(&self, at: u32) -> Option<&'a str> {
        let rest = self.strings.get(at as usize..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

impl Type {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let info = word(bytes, at + 4)?;
        Some(Self {
            at,
            name: word(bytes, at)?,
            kind: match info >> 24 & 0x1f {
                1 => Kind::Int,
                2 => Kind::Pointer,
                STRUCT => Kind::Struct,
                5 => Kind::Union,
                6 | 19 => Kind::Enum,
                TYPEDEF => Kind::Typedef,
                9..=11 | 18 => Kind::Qualifier,
                13 => Kind::Prototype,
                _ => Kind::Other,
            },
            length: (info & 0xffff) as usize,
            bit_fields: info >> 31 == 1,
            size_or_type: word(bytes, at + 8)?,
        })
    }
}

/// The offset of each type, and the ids of those that are searched by name.
fn find_types(bytes: &[u8], start: usize, end: usize) -> Result<(Vec<usize>, Vec<u32>), BtfError> {
    // `void` has no offset; one beyond the end is never found.
    let mut types = vec![usize::MAX / 2];
    let mut named = Vec::new();
    let mut at = start;
    while at < end {
        let info = word(bytes, at + 4).ok_or(BtfError::Truncated(at))?;
        let (kind, length) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if matches!(kind, STRUCT | TYPEDEF)
            && let Ok(id) = u32::try_from(types.len())
        {
            named.push(id);
        }
        types.push(at);
        at += TYPE + extra_bytes(kind, length).ok_or(BtfError::Kind { kind, at })?;
    }
    if at == end { Ok((types, named)) } else { Err(BtfError::Truncated(at)) }
}

/// The size that a kind adds to a type's first 12 bytes.
fn extra_bytes(kind: u32, length: usize) -> Option<usize> {
    Some(match kind {
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => MEMBER * length,
        6 | 13 => PARAMETER * length,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests;
