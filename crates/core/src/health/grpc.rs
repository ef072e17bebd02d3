//! Health of a gRPC server: the answer to `grpc.health.v1.Health/Check`.
//!
//! Three layers answer, and each is read as its counterpart in HTTP/1: the code of gRPC by the HTTP
//! status that it is documented to equal, the message like a body. The service's own word,
//! `NOT_SERVING`, is like a 503 with `DOWN`: it names no cause, so no restart follows from it alone.
//! A server without the health service says `UNIMPLEMENTED`, which is like a 404: it lives.
use std::fmt;

use http::{
    StatusCode,
    header::{self, HeaderMap},
};

use super::{
    Component, Health, HealthError, Says,
    classify::{self, Reading, UPSTREAM},
};

/// The path of the call.
pub const PATH: &str = "/grpc.health.v1.Health/Check";
/// The type of requests and responses; a response may add a suffix, such as `+proto`.
pub const CONTENT_TYPE: &str = "application/grpc";

/// A message's prefix: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The field `service` of the request, and the wire type of bytes.
const SERVICE: u8 = 1 << 3 | 2;
/// The field `status` of the response.
const STATUS: u64 = 1;

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// HTTP headers.
    pub headers: HeaderMap,
    /// The code of gRPC, in the headers or in the trailers.
    pub code: Option<Code>,
    /// The messages, each with its prefix.
    pub body: Vec<u8>,
}

/// A code of gRPC, such as 12 for `UNIMPLEMENTED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u8);

impl Code {
    /// `UNKNOWN`, also for codes that do not exist.
    const UNKNOWN: Self = Self(2);
    /// `RESOURCE_EXHAUSTED`
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// `UNAVAILABLE`
    pub const UNAVAILABLE: Self = Self(14);

    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];

    /// The code in headers or trailers, if they contain one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get("grpc-status")?.to_str().unwrap_or_default();
        let code = text.parse().ok().filter(|code| usize::from(*code) < Self::NAMES.len());
        Some(code.map_or(Self::UNKNOWN, Self))
    }

    /// The HTTP status that the kernel side counts a response with this code as, if the code is the
    /// server's fault.
    #[must_use]
    pub const fn fault(self) -> Option<StatusCode> {
        match self.0 {
            2 | 13 | 15 => Some(StatusCode::INTERNAL_SERVER_ERROR),
            4 => Some(StatusCode::GATEWAY_TIMEOUT),
            12 => Some(StatusCode::NOT_IMPLEMENTED),
            14 => Some(StatusCode::SERVICE_UNAVAILABLE),
            _ => None,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.get(usize::from(self.0)).unwrap_or(&"UNKNOWN"))
    }
}

/// Why a gRPC response says nothing about health. The server lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrpcError {
    /// It has no health service, or the health service does not know the named service.
    #[error(
        "no gRPC health service here ({0}): register grpc.health.v1.Health, and in it the service \
         that is asked for"
    )]
    NoService(Code),
    /// It requires a login.
    #[error("its gRPC health service answered {0}: it requires a login; exempt it")]
    Refused(Code),
    /// It limits the rate of requests.
    #[error("its gRPC health service answered {0}: it limits the rate of requests; exempt it")]
    TooOften(Code),
    /// Any other code that says nothing about health.
    #[error("its gRPC health service answered {0}, which says nothing about its health")]
    NotOk(Code),
    /// It answers, but its health is not set, or is a word that does not exist.
    #[error("its gRPC health service reports neither SERVING nor NOT_SERVING")]
    NoWord,
    /// It is HTTP/2, but not gRPC.
    #[error("the answer is HTTP/2, but not gRPC: is the port right?")]
    NotGrpc,
    /// It is compressed, cut short, or no message of the health service.
    #[error("its gRPC health service sent a malformed message")]
    Malformed,
}

impl GrpcError {
    /// A label for metrics: finite, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoService(_) => "not_found",
            Self::Refused(_) => "refused",
            Self::TooOften(_) => "too_often",
            Self::NotOk(_) | Self::NoWord => "status_not_ok",
            Self::NotGrpc | Self::Malformed => "not_grpc",
        }
    }
}

/// The body of a request for the health of `service`; empty for that of the whole server. Its
/// name is cut off at [`LONGEST_SERVICE`].
#[must_use]
pub fn request(service: &str) -> Vec<u8> {
    let name = service.as_bytes();
    let name = &name[..name.len().min(LONGEST_SERVICE)];
    let mut message = Vec::with_capacity(PREFIX + 3 + name.len());
    message.extend_from_slice(&[0; PREFIX]);
    if !name.is_empty() {
        message.push(SERVICE);
        // A varint of at most two bytes.
        if name.len() >= 0x80 {
            message.push(name.len() as u8 | 0x80);
            message.push((name.len() >> 7) as u8);
        } else {
            message.push(name.len() as u8);
        }
        message.extend_from_slice(name);
    }
    let length = (message.len() - PREFIX) as u32;
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    message
}

/// Maximum length of a service's name, in bytes.
pub const LONGEST_SERVICE: usize = 256;

/// Whether `name` can be the name of a service: empty, or printable ASCII without spaces.
#[must_use]
pub fn is_service(name: &str) -> bool {
    name.len() <= LONGEST_SERVICE && name.bytes().all(|b| b.is_ascii_graphic())
}

/// Reads one response.
///
/// # Errors
/// If it is unreadable, which is no evidence: any error but a [`HealthError::Transport`].
pub fn read(answer: &Answer) -> Result<Reading, HealthError> {
    let by_status = |says| {
        let health = Health { says, ..Health::default() };
        Ok(Reading { health, by_status_alone: true })
    };
    let Some(code) = answer.code else { return without_code(answer) };
    match code.0 {
        0 => message(&answer.body).map(Reading::from).map_err(HealthError::from),
        2 | 13 | 15 => by_status(Says::Ill),
        4 => by_status(Says::Blames(Component::new(UPSTREAM))),
        5 | 12 => Err(GrpcError::NoService(code).into()),
        7 | 16 => Err(GrpcError::Refused(code).into()),
        8 => Err(GrpcError::TooOften(code).into()),
        14 => by_status(Says::NotNow),
        _ => Err(GrpcError::NotOk(code).into()),
    }
}

/// Something before the gRPC server answered, or the server speaks another protocol.
fn without_code(answer: &Answer) -> Result<Reading, HealthError> {
    let is_grpc = answer
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(CONTENT_TYPE.as_bytes()));
    match answer.status {
        StatusCode::OK if is_grpc => Err(GrpcError::Malformed.into()),
        status if status.is_success() || status.is_informational() => {
            Err(GrpcError::NotGrpc.into())
        }
        status => {
            let headers = answer.headers.clone();
            classify::read(&classify::Answer { status, headers, body: answer.body.clone() })
        }
    }
}

/// The only message of a response with code 0.
fn message(body: &[u8]) -> Result<Health, GrpcError> {
    let (prefix, message) = body.split_first_chunk::<PREFIX>().ok_or(GrpcError::Malformed)?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 || u32::from_be_bytes(length) as usize != message.len() {
        return Err(GrpcError::Malformed);
    }
    let health = |says, is_vague| Ok(Health { says, is_vague, ..Health::default() });
    match status(message).ok_or(GrpcError::Malformed)? {
        1 => health(Says::Well, false),
        2 => health(Says::Ill, true),
        3 => Err(GrpcError::NoService(Code(5))),
        _ => Err(GrpcError::NoWord),
    }
}

/// The field `status`, 0 if it is missing; the last one counts. Unknown fields are skipped.
fn status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let length = match (key >> 3, key & 7) {
            (0, _) => return None,
            (STATUS, 0) => {
                status = varint(&mut message)?;
                0
            }
            (STATUS, _) => return None,
            (_, 0) => {
                varint(&mut message)?;
                0
            }
            (_, 1) => 8,
            (_, 2) => usize::try_from(varint(&mut message)?).ok()?,
            (_, 5) => 4,
            _ => return None,
        };
        message = message.get(length..)?;
    }
    Some(status)
}

/// A varint of at most ten bytes.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
