//! Where functions are in an ELF file, from its symbols.
//!
//! The file is a target's: it may be of any size and content, and change while it is read. Only
//! pieces of a fixed size are read, at places within bounds, and nothing of it is kept but offsets.
//! Names are found first, as places in the table of names, and then the symbols that have them: so
//! that not even a table needs memory.
use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt};

use thiserror::Error;

use super::Function;

/// Largest table of symbols or names. The largest programs of Go have a tenth of it.
const MAX_TABLE: u64 = 128 << 20;
const MAX_SECTIONS: u16 = 4096;
const MAX_SEGMENTS: u16 = 256;
/// Bytes that are read at once, a multiple of the size of a symbol.
const PIECE: usize = 24 * 4096;

const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;
const DYNSYM: u32 = 11;
const SYMBOL: u64 = 24;
const LOAD: u32 = 1;
const EXECUTABLE: u32 = 1;
const FUNCTION: u8 = 2;

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// Why no function can be found in a file.
#[derive(Debug, Error)]
pub enum Refusal {
    /// It cannot be opened or read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is no program or library of this machine.
    #[error("it is not an ELF file of this machine")]
    Foreign,
    /// Its tables are beyond its end, or beyond the bounds.
    #[error("its ELF tables are invalid or too large")]
    Invalid,
    /// It has the functions of Go, in the order of arguments of an old version.
    #[error("it was built with a version of Go before 1.18")]
    OldGo,
    /// It is a program of Go whose symbols were removed.
    #[error("it is a program of Go without symbols (built with -ldflags -s): build it without")]
    StrippedGo,
    /// It has none of the functions.
    #[error("it has no symbols of OpenSSL or of Go's crypto/tls")]
    NoFunctions,
}

/// Offsets in the file of the functions that it defines: at least one that writes.
pub(super) fn functions(file: &File) -> Result<Vec<(Function, u64)>, Refusal> {
    let elf = Elf::read(file)?;
    let mut found: HashMap<Function, u64> = HashMap::new();
    for table in elf.sections.iter().filter(|section| matches!(section.kind, SYMTAB | DYNSYM)) {
        elf.symbols(table, &mut found)?;
    }
    let mut functions: Vec<_> = found.into_iter().collect();
    functions.sort_by_key(|(function, _)| function.symbol());
    let writes = |of_go: bool| {
        let mut writes = functions.iter().filter(|(function, _)| function.writes());
        writes.any(|(function, _)| (*function == Function::GoWrite) == of_go)
    };
    if writes(true) && !elf.passes_in_registers()? {
        return Err(Refusal::OldGo);
    }
    if writes(true) || writes(false) {
        for (_, offset) in functions.iter_mut().filter(|(found, _)| *found == Function::GoWrite) {
            *offset += elf.stack_check(*offset)?;
        }
        return Ok(functions);
    }
    let is_go = elf.go_version()?.is_some();
    Err(if is_go && !elf.has_symbols() { Refusal::StrippedGo } else { Refusal::NoFunctions })
}

/// Offset in the file of the first instruction of a program.
pub(super) fn entry(file: &File) -> Result<u64, Refusal> {
    let elf = Elf::read(file)?;
    elf.offset(elf.entry).ok_or(Refusal::Invalid)
}

struct Elf<'f> {
    file: &'f File,
    length: u64,
    entry: u64,
    sections: Vec<Section>,
    /// Segments with code: address, length, offset.
    code: Vec<(u64, u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Section {
    kind: u32,
    offset: u64,
    length: u64,
    link: u32,
    entry: u64,
    address: u64,
}

impl<'f> Elf<'f> {
    fn read(file: &'f File) -> Result<Self, Refusal> {
        let length = file.metadata()?.len();
        let mut head = [0; 64];
        if length < 64 {
            return Err(Refusal::Foreign);
        }
        file.read_exact_at(&mut head, 0)?;
        if head.get(..6) != Some(b"\x7fELF\x02\x01") || half(&head, 18) != Some(MACHINE) {
            return Err(Refusal::Foreign);
        }
        let invalid = || Refusal::Invalid;
        let (segments, segment) = (half(&head, 56), half(&head, 54));
        let (sections, section) = (half(&head, 60), half(&head, 58));
        if segment != Some(56) || section != Some(64) {
            return Err(Refusal::Invalid);
        }
        let segments = segments.filter(|count| *count <= MAX_SEGMENTS).ok_or_else(invalid)?;
        let sections = sections.filter(|count| *count <= MAX_SECTIONS).ok_or_else(invalid)?;
        let entry = double(&head, 24).ok_or_else(invalid)?;
        let mut elf = Self { file, length, entry, sections: Vec::new(), code: Vec::new() };
        let at = double(&head, 32).ok_or_else(invalid)?;
        let table = elf.table(at, usize::from(segments) * 56)?;
        elf.code = table.chunks_exact(56).filter_map(code).collect();
        let at = double(&head, 40).ok_or_else(invalid)?;
        let table = elf.table(at, usize::from(sections) * 64)?;
        elf.sections = table.chunks_exact(64).filter_map(Section::of).collect();
        Ok(elf)
    }

    /// A piece of the file, whose length is bounded by the caller.
    fn table(&self, at: u64, length: usize) -> Result<Vec<u8>, Refusal> {
        let end = at.checked_add(length as u64).filter(|end| *end <= self.length);
        end.ok_or(Refusal::Invalid)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Whether a section is within the file and the bounds.
    fn fits(&self, section: &Section) -> bool {
        let end = section.offset.checked_add(section.length);
        section.length <= MAX_TABLE && end.is_some_and(|end| end <= self.length)
    }

    fn has_symbols(&self) -> bool {
        self.sections.iter().any(|section| section.kind == SYMTAB)
    }

    /// Adds the functions that a table of symbols defines, unless they are known.
    fn symbols(&self, table: &Section, found: &mut HashMap<Function, u64>) -> Result<(), Refusal> {
        let names = self.sections.get(table.link as usize);
        let names = names.filter(|names| names.kind == STRTAB).ok_or(Refusal::Invalid)?;
        if !self.fits(table) || !self.fits(names) || table.entry != SYMBOL {
            return Err(Refusal::Invalid);
        }
        let names = self.names(names)?;
        if names.is_empty() {
            return Ok(());
        }
        self.pieces(table, 0, |_, piece| {
            for symbol in piece.chunks_exact(SYMBOL as usize) {
                let function = word(symbol, 0).and_then(|name| names.get(&name));
                let (Some(function), Some(value)) = (function, double(symbol, 8)) else { continue };
                let is_function = symbol.get(4).is_some_and(|info| info & 15 == FUNCTION);
                let is_defined = half(symbol, 6) != Some(0) && value != 0;
                if let (true, true, Some(offset)) = (is_function, is_defined, self.offset(value)) {
                    found.entry(*function).or_insert(offset);
                }
            }
        })
    }

    /// Where in a table of names the wanted ones are. A name may be the end of another.
    fn names(&self, table: &Section) -> Result<HashMap<u32, Function>, Refusal> {
        const LONGEST: usize = 32;
        let mut places = HashMap::new();
        self.pieces(table, LONGEST, |at, piece| {
            let ends = piece.iter().enumerate().filter(|(_, byte)| **byte == 0);
            for (end, _) in ends {
                let text = piece.get(..end).unwrap_or_default();
                if text.last().is_none_or(|last| *last == 0) {
                    continue;
                }
                for function in Function::ALL {
                    let name = function.symbol().as_bytes();
                    if text.ends_with(name) {
                        let place = at + (end - name.len()) as u64;
                        places.extend(u32::try_from(place).ok().map(|place| (place, function)));
                    }
                }
            }
        })?;
        Ok(places)
    }

    /// Reads a section piece by piece, each with the last `again` bytes of the one before.
    fn pieces(
        &self,
        section: &Section,
        again: usize,
        mut take: impl FnMut(u64, &[u8]),
    ) -> Result<(), Refusal> {
        let mut buffer = vec![0; PIECE + again];
        let (mut at, mut kept) = (0, 0);
        while at < section.length {
            let rest = usize::try_from(section.length - at).unwrap_or(usize::MAX);
            let end = kept + rest.min(PIECE);
            let new = buffer.get_mut(kept..end).ok_or(Refusal::Invalid)?;
            self.file.read_exact_at(new, section.offset + at)?;
            take(at - kept as u64, buffer.get(..end).unwrap_or_default());
            at += (end - kept) as u64;
            let keep = again.min(end);
            buffer.copy_within(end - keep..end, 0);
            kept = keep;
        }
        Ok(())
    }

    /// Offset in the file of code at an address.
    fn offset(&self, address: u64) -> Option<u64> {
        self.code.iter().find_map(|(begin, length, offset)| {
            let within = address.checked_sub(*begin).filter(|within| within < length)?;
            offset.checked_add(within).filter(|offset| *offset < self.length)
        })
    }

    /// The version of Go that the linker wrote into the file: `None` without one.
    fn go_version(&self) -> Result<Option<String>, Refusal> {
        const MAGIC: &[u8] = b"\xff Go buildinf:";
        // It stands at the begin of the data, or of a section of its own.
        for section in self.sections.iter().filter(|section| section.address != 0) {
            if section.length < 48 || section.offset.checked_add(48).is_none_or(|e| e > self.length)
            {
                continue;
            }
            let mut head = [0; 48];
            self.file.read_exact_at(&mut head, section.offset)?;
            if !head.starts_with(MAGIC) {
                continue;
            }
            // Since 1.18 the text follows; before, a pointer to it.
            let inline = head.get(15).is_some_and(|flags| flags & 2 != 0);
            let length = head.get(32).copied().map_or(0, usize::from);
            let text = head.get(33..33 + length.min(15)).filter(|_| inline).unwrap_or_default();
            return Ok(Some(String::from_utf8_lossy(text).into_owned()));
        }
        Ok(None)
    }

    /// Bytes of the check at the begin of a function of Go whether its stack suffices. If not, the
    /// function begins again on a larger one: behind the check it begins only once.
    fn stack_check(&self, offset: u64) -> Result<u64, Refusal> {
        let mut code = [0; CHECK];
        if offset.checked_add(CHECK as u64).is_some_and(|end| end <= self.length) {
            self.file.read_exact_at(&mut code, offset)?;
        }
        Ok(stack_check(&code))
    }

    /// Whether functions of Go take their arguments in registers: since 1.17 on x86-64, 1.18 on
    /// others, which is also when the version became readable.
    fn passes_in_registers(&self) -> Result<bool, Refusal> {
        Ok(self.go_version()?.is_some_and(|version| !version.is_empty()))
    }
}

/// Most bytes of such a check.
const CHECK: usize = 18;

/// `cmp rsp, [r14+16]`, or `lea r12, [rsp-n]` and `cmp r12, [r14+16]`; then `jbe`.
#[cfg(target_arch = "x86_64")]
fn stack_check(code: &[u8; CHECK]) -> u64 {
    let compared = match code {
        [0x49, 0x3b, 0x66, 0x10, ..] => 4,
        [0x4c, 0x8d, 0x64, 0x24, _, 0x4d, 0x3b, 0x66, 0x10, ..] => 9,
        [0x4c, 0x8d, 0xa4, 0x24, _, _, _, _, 0x4d, 0x3b, 0x66, 0x10, ..] => 12,
        _ => return 0,
    };
    match code.get(compared..) {
        Some([0x76, ..]) => compared as u64 + 2,
        Some([0x0f, 0x86, ..]) => compared as u64 + 6,
        _ => 0,
    }
}

/// `ldr x16, [x28, #16]`, then `cmp sp, x16`, or `sub x17, sp, #n` and `cmp x17, x16`; then `b.ls`.
#[cfg(target_arch = "aarch64")]
fn stack_check(code: &[u8; CHECK]) -> u64 {
    let word = |index: usize| word(code, 4 * index).unwrap_or_default();
    let is_jump = |word: u32| word & 0xff00_001f == 0x5400_0009;
    if word(0) != 0xf940_0b90 {
        return 0;
    }
    if word(1) == 0xeb30_63ff && is_jump(word(2)) {
        return 12;
    }
    if word(1) & 0xff00_03ff == 0xd100_03f1 && word(2) == 0xeb10_023f && is_jump(word(3)) {
        return 16;
    }
    0
}

/// A segment with code, from its header.
fn code(header: &[u8]) -> Option<(u64, u64, u64)> {
    let is_code = word(header, 0)? == LOAD && word(header, 4)? & EXECUTABLE != 0;
    is_code.then_some((double(header, 16)?, double(header, 32)?, double(header, 8)?))
}

impl Section {
    fn of(header: &[u8]) -> Option<Self> {
        Some(Self {
            kind: word(header, 4)?,
            address: double(header, 16)?,
            offset: double(header, 24)?,
            length: double(header, 32)?,
            link: word(header, 40)?,
            entry: double(header, 56)?,
        })
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn double(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
