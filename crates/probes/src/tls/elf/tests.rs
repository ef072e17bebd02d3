use std::{
    io::{Seek, Write},
    path::Path,
};

use super::*;

/// A file without a name.
fn file(bytes: &[u8]) -> File {
    let path = std::env::temp_dir().join(format!(
        "paramedic-elf-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
    let file = file.as_mut().unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file.try_clone().unwrap()
}

const CODE: u64 = 0x40_1000;

/// A program with these symbols, all defined at distances of 16 bytes, and this section of data.
fn program(symbols: &[&str], data: &[u8]) -> Vec<u8> {
    let mut names = vec![0];
    let mut table = vec![0; 24];
    for (index, symbol) in symbols.iter().enumerate() {
        table.extend((names.len() as u32).to_le_bytes());
        table.extend([0x12, 0, 1, 0]);
        table.extend((CODE + 16 * index as u64).to_le_bytes());
        table.extend(16_u64.to_le_bytes());
        names.extend(symbol.bytes().chain([0]));
    }
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18..20].copy_from_slice(&MACHINE.to_le_bytes());
    elf[24..32].copy_from_slice(&CODE.to_le_bytes());
    elf[32..40].copy_from_slice(&64_u64.to_le_bytes());
    elf[40..48].copy_from_slice(&120_u64.to_le_bytes());
    for (at, value) in [(54, 56_u16), (56, 1), (58, 64), (60, 5)] {
        elf[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    // One segment: 1 MiB of code from offset 16 on.
    elf.extend(1_u32.to_le_bytes());
    elf.extend(5_u32.to_le_bytes());
    for value in [16, CODE, CODE, 1 << 20, 1 << 20, 4096_u64] {
        elf.extend(value.to_le_bytes());
    }
    let begin = 120 + 5 * 64;
    let sections: [(u32, u64, usize, u32, u64); 5] = [
        (0, 0, 0, 0, 0),
        (1, CODE, 0, 0, 0),
        (SYMTAB, 0, table.len(), 3, 24),
        (STRTAB, 0, names.len(), 0, 0),
        (1, 0x50_0000, data.len(), 0, 0),
    ];
    let mut offset = begin as u64;
    for (kind, address, length, link, entry) in sections {
        elf.extend(0_u32.to_le_bytes());
        elf.extend(kind.to_le_bytes());
        elf.extend([0; 8]);
        for value in [address, offset, length as u64] {
            elf.extend(value.to_le_bytes());
        }
        elf.extend(link.to_le_bytes());
        elf.extend([0; 12]);
        elf.extend(entry.to_le_bytes());
        offset += length as u64;
    }
    elf.extend([table, names, data.to_vec()].concat());
    elf
}

const WRITE: &str = "SSL_write";
const GO: &str = "crypto/tls.(*Conn).Write";

fn version(text: &str) -> Vec<u8> {
    let mut data = b"\xff Go buildinf:\x08\x02".to_vec();
    data.resize(32, 0);
    data.push(text.len() as u8);
    data.extend(text.bytes());
    data.resize(64, 0);
    data
}

#[test]
fn functions_are_found_by_their_names_alone() {
    let elf = program(&["main", "BIO_SSL_write", "SSL_write_", "SSL_free", WRITE], &[]);
    let found = functions(&file(&elf)).unwrap();
    assert_eq!(found, [(Function::SslFree, 16 + 48), (Function::SslWrite, 16 + 64)]);
    assert_eq!(entry(&file(&elf)).unwrap(), 16);
}

#[test]
fn names_are_found_across_pieces() {
    // The table of names ends its pieces anywhere in the wanted name.
    for before in PIECE - 30..PIECE + 5 {
        let filler = "x".repeat(before);
        let found = functions(&file(&program(&[&filler, WRITE, "y"], &[]))).unwrap();
        assert_eq!(found, [(Function::SslWrite, 32)], "{before}");
    }
}

#[test]
fn many_symbols_are_read_piece_by_piece() {
    let names: Vec<String> = (0..10_000).map(|index| format!("f{index}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.push(WRITE);
    let found = functions(&file(&program(&names, &vec![0; 200_000]))).unwrap();
    assert_eq!(found, [(Function::SslWrite, 16 + 16 * 10_000)]);
}

#[test]
fn programs_of_go_are_told_by_their_version() {
    let names = [GO, "crypto/tls.(*Conn).Close"];
    let found = functions(&file(&program(&names, &version("go1.22.1")))).unwrap();
    assert_eq!(found, [(Function::GoClose, 32), (Function::GoWrite, 16)]);
    let mut old = version("");
    old[15] = 0;
    for data in [old, Vec::new()] {
        let refused = functions(&file(&program(&names, &data)));
        assert!(matches!(refused, Err(Refusal::OldGo)), "{refused:?}");
    }
    let mut stripped = program(&["x"], &version("go1.22.1"));
    let kind = 120 + 2 * 64 + 4;
    stripped[kind..kind + 4].copy_from_slice(&1_u32.to_le_bytes());
    assert!(matches!(functions(&file(&stripped)), Err(Refusal::StrippedGo)));
}

#[test]
fn what_is_missing_is_named() {
    let refused = |bytes: &[u8]| functions(&file(bytes)).unwrap_err();
    assert!(matches!(refused(&program(&["main", "SSL_free"], &[])), Refusal::NoFunctions));
    for foreign in [&b""[..], b"#!/bin/sh\n", &[0; 100], b"\x7fELF"] {
        assert!(matches!(refused(foreign), Refusal::Foreign), "{foreign:?}");
    }
    let mut other = program(&[WRITE], &[]);
    other[18] ^= 1;
    assert!(matches!(refused(&other), Refusal::Foreign));
}

#[test]
fn an_undefined_symbol_is_no_function() {
    // As in a program that uses the library.
    let mut elf = program(&[WRITE], &[]);
    let symbol = 120 + 5 * 64 + 24;
    elf[symbol + 6] = 0;
    assert!(matches!(functions(&file(&elf)), Err(Refusal::NoFunctions)));
}

#[test]
fn code_outside_of_the_file_is_no_place() {
    for value in [0, 1, CODE - 1, CODE + (1 << 20), u64::MAX] {
        let mut elf = program(&[WRITE], &[]);
        let at = 120 + 5 * 64 + 24 + 8;
        elf[at..at + 8].copy_from_slice(&value.to_le_bytes());
        assert!(functions(&file(&elf)).is_err(), "{value:#x}");
    }
}

#[test]
fn any_bytes_in_the_tables_are_an_answer_or_a_refusal() {
    let whole = program(&["main", WRITE, GO, "SSL_free"], &version("go1.22.1"));
    for at in 0..120 + 5 * 64 + 24 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut elf = whole.clone();
            elf[at] = value;
            if let Ok(found) = functions(&file(&elf)) {
                assert!(found.iter().all(|(_, offset)| *offset < elf.len() as u64));
            }
            let _ = entry(&file(&elf));
        }
    }
    for length in 0..whole.len() {
        let _ = functions(&file(&whole[..length]));
    }
}

#[test]
fn tables_beyond_the_bounds_are_not_read() {
    // A sparse file may claim any length.
    let elf = program(&[WRITE], &[]);
    for (field, value) in [(32, MAX_TABLE + 1), (32, u64::MAX), (24, u64::MAX - 3)] {
        for section in [2, 3] {
            let mut elf = elf.clone();
            let at = 120 + section * 64 + field;
            elf[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let file = file(&elf);
            file.set_len(1 << 40).unwrap();
            assert!(matches!(functions(&file), Err(Refusal::Invalid)), "{section} {field}");
        }
    }
}

#[test]
fn a_file_that_shrinks_meanwhile_is_a_refusal() {
    let elf = file(&program(&[WRITE], &[]));
    let opened = Elf::read(&elf).unwrap();
    let table = *opened.sections.iter().find(|section| section.kind == SYMTAB).unwrap();
    elf.set_len(200).unwrap();
    let refused = opened.symbols(&table, &mut HashMap::new());
    assert!(matches!(refused, Err(Refusal::Read(_))), "{refused:?}");
}

#[test]
fn this_program_has_an_entry_and_no_tls_of_openssl() {
    let own = File::open(Path::new("/proc/self/exe")).unwrap();
    assert!(entry(&own).unwrap() > 0);
    assert!(matches!(functions(&own), Err(Refusal::NoFunctions)));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_function_of_go_is_looked_at_behind_its_check_of_the_stack() {
    let check = |bytes: &[u8]| {
        let mut code = [0x90; CHECK];
        code[..bytes.len()].copy_from_slice(bytes);
        stack_check(&code)
    };
    assert_eq!(check(b"\x49\x3b\x66\x10\x76\x20\x55"), 6);
    assert_eq!(check(b"\x49\x3b\x66\x10\x0f\x86\0\x01\0\0"), 10);
    assert_eq!(check(b"\x4c\x8d\x64\x24\xf8\x4d\x3b\x66\x10\x0f\x86\0\x05\0\0"), 15);
    assert_eq!(check(b"\x4c\x8d\xa4\x24\0\xff\xff\xff\x4d\x3b\x66\x10\x0f\x86\0\x05\0\0"), 18);
    for other in [&b""[..], b"\x49\x3b\x66\x10\x90", b"\x55\x48\x89\xe5"] {
        assert_eq!(check(other), 0, "{other:?}");
    }
}
