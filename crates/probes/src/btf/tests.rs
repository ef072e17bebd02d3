use super::*;

/// A small BTF image: `struct outer { u32 a; struct { union { u16 b; }; }; inner_t c; }`, with
/// `typedef const struct inner inner_t`, and a tracepoint that passes a `struct inner *`.
struct Image {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Image {
    fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0] }
    }

    fn name(&mut self, name: &str) -> u32 {
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn push(&mut self, name: &str, kind: u32, length: u32, size_or_type: u32, extra: &[u32]) {
        let name = if name.is_empty() { 0 } else { self.name(name) };
        for word in [name, kind << 24 | length, size_or_type].iter().chain(extra) {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let types = u32::try_from(self.types.len()).unwrap();
        let strings = u32::try_from(self.strings.len()).unwrap();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&[1, 0]);
        for word in [24, 0, types, types, strings] {
            bytes.extend_from_slice(&u32::to_ne_bytes(word));
        }
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}

fn sample() -> Vec<u8> {
    let mut image = Image::new();
    let [a, b, c, x] = ["a", "b", "c", "x"].map(|name| image.name(name));
    image.push("u32", 1, 0, 4, &[32]); // 1
    image.push("u16", 1, 0, 2, &[16]); // 2
    image.push("", 5, 1, 2, &[b, 2, 0]); // 3: union { u16 b; }
    image.push("", 4, 1, 2, &[0, 3, 0]); // 4: struct { union }
    image.push("inner", 4, 1, 8, &[x, 1, 32]); // 5
    image.push("", 10, 0, 5, &[]); // 6: const struct inner
    image.push("inner_t", 8, 0, 6, &[]); // 7
    image.push("outer", 4, 3, 16, &[a, 1, 0, 0, 4, 32, c, 7, 64]); // 8
    image.push("", 2, 0, 7, &[]); // 9: inner_t *
    image.push("", 2, 0, 0, &[]); // 10: void *
    image.push("", 13, 3, 0, &[0, 10, 0, 9, 0, 1]); // 11: (void *, inner_t *, u32)
    image.push("", 2, 0, 11, &[]); // 12
    image.push("btf_trace_shock", 8, 0, 12, &[]); // 13
    image.push("tag", 17, 0, 5, &[0]); // 14: declaration tag
    image.push("wide", 19, 1, 8, &[0, 0, 0]); // 15: enum64
    image.bytes()
}

fn member(bytes: &[u8], path: &str) -> Option<Member> {
    Btf::parse(bytes).unwrap().member(path)
}

#[test]
fn members_are_found_through_anonymous_ones_and_typedefs() {
    let bytes = sample();
    assert_eq!(member(&bytes, "outer.a"), Some(Member { offset: 0, size: 4 }));
    assert_eq!(member(&bytes, "outer.b"), Some(Member { offset: 4, size: 2 }));
    assert_eq!(member(&bytes, "outer.c.x"), Some(Member { offset: 12, size: 4 }));
    assert_eq!(member(&bytes, "outer.c"), Some(Member { offset: 8, size: 8 }));
}

#[test]
fn missing_members_are_not_found() {
    let bytes = sample();
    for path in ["outer.z", "nothing.a", "outer.a.b", "u32.a", "", "outer..a", "out.a", "outer.c.b"]
    {
        assert_eq!(member(&bytes, path), None, "{path}");
    }
}

#[test]
fn tracepoint_arguments_are_named_by_their_struct() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.tracepoint_argument("shock", 0), Some("inner"));
    assert_eq!(btf.tracepoint_argument("shock", 1), None, "an integer");
    assert_eq!(btf.tracepoint_argument("shock", 2), None, "no such argument");
    assert_eq!(btf.tracepoint_argument("shock", usize::MAX - 1), None);
    assert_eq!(btf.tracepoint_argument("calm", 0), None);
}

#[test]
fn a_truncated_file_is_an_error_at_every_length() {
    let bytes = sample();
    for length in 0..bytes.len() {
        assert!(Btf::parse(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn an_unknown_kind_is_named() {
    let mut image = Image::new();
    image.push("future", 31, 0, 0, &[]);
    assert_eq!(Btf::parse(&image.bytes()).err(), Some(BtfError::Kind { kind: 31, at: 24 }));
    assert_eq!(Btf::parse(b"\x7fELF").err(), Some(BtfError::Magic));
}

#[test]
fn cyclic_types_end() {
    let mut image = Image::new();
    let x = image.name("x");
    image.push("ring", 8, 0, 1, &[]); // 1: typedef of itself
    image.push("loop", 4, 1, 8, &[x, 1, 0]); // 2: struct loop { ring x; }
    // 3: struct maze, every member anonymous and of its own type: 1000^16 ways to go
    let maze: Vec<u32> = [0, 3, 0].repeat(1000);
    image.push("maze", 4, 1000, 8, &maze);
    image.push("btf_trace_ring", 8, 0, 4, &[]); // 4: typedef of itself
    let bytes = image.bytes();
    assert_eq!(member(&bytes, "loop.x"), Some(Member { offset: 0, size: 0 }));
    assert_eq!(member(&bytes, "loop.x.y"), None);
    assert_eq!(member(&bytes, "maze.x"), None);
    assert_eq!(Btf::parse(&bytes).unwrap().tracepoint_argument("ring", 0), None);
}

#[test]
fn no_corruption_panics() {
    let good = sample();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 1).unwrap()
    };
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = u8::try_from(random() % 256).unwrap();
        }
        let Ok(btf) = Btf::parse(&bytes) else { continue };
        for path in ["outer.a", "outer.b", "outer.c.x", "inner.x"] {
            let _ = btf.member(path);
        }
        let _ = btf.tracepoint_argument("shock", 0);
    }
}
