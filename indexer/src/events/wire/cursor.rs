//! MessagePack read in place: nothing is copied, and no length in it is believed
//! before the bytes are there.

use rmp::Marker;

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes end inside the value.
    Truncated,
    /// The value is of another kind than the field has.
    Kind,
}

/// One value; of an array or map only its length, the elements follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Head<'a> {
    Nil,
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text(&'a [u8]),
    Bin(&'a [u8]),
    Array(usize),
    Map(usize),
    /// Booleans, extensions and the reserved marker: no field has these.
    Other,
}

/// A position in a payload.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes left: no array that is still to come can have more elements.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A big-endian number of up to 8 bytes.
    fn number(&mut self, size: usize) -> Result<u64, Fault> {
        Ok(self.take(size)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn length(&mut self, size: usize) -> Result<usize, Fault> {
        usize::try_from(self.number(size)?).map_err(|_| Fault::Truncated)
    }

    fn signed(&mut self, size: usize) -> Result<Head<'a>, Fault> {
        let unused = 64 - 8 * size as u32;
        let number = (self.number(size)? << unused) as i64 >> unused;
        Ok(u64::try_from(number).map_or(Head::Negative(number), Head::Unsigned))
    }

    fn text(&mut self, length: usize) -> Result<Head<'a>, Fault> {
        self.take(length).map(Head::Text)
    }

    fn bin(&mut self, size: usize) -> Result<Head<'a>, Fault> {
        let length = self.length(size)?;
        self.take(length).map(Head::Bin)
    }

    /// An extension: its type and `length` bytes.
    fn extension(&mut self, length: usize) -> Result<Head<'a>, Fault> {
        self.take(length.saturating_add(1)).map(|_| Head::Other)
    }

    /// Reads one value, or the head of an array or map.
    pub(super) fn head(&mut self) -> Result<Head<'a>, Fault> {
        let marker = self.take(1)?.first().copied().ok_or(Fault::Truncated)?;
        Ok(match Marker::from_u8(marker) {
            Marker::Null => Head::Nil,
            Marker::FixPos(value) => Head::Unsigned(value.into()),
            Marker::FixNeg(value) => Head::Negative(value.into()),
            Marker::U8 => Head::Unsigned(self.number(1)?),
            Marker::U16 => Head::Unsigned(self.number(2)?),
            Marker::U32 => Head::Unsigned(self.number(4)?),
            Marker::U64 => Head::Unsigned(self.number(8)?),
            Marker::I8 => self.signed(1)?,
            Marker::I16 => self.signed(2)?,
            Marker::I32 => self.signed(4)?,
            Marker::I64 => self.signed(8)?,
            Marker::F32 => Head::Float(f32::from_bits(self.number(4)? as u32).into()),
            Marker::F64 => Head::Float(f64::from_bits(self.number(8)?)),
            Marker::FixStr(length) => self.text(length.into())?,
            Marker::Str8 => self.length(1).and_then(|length| self.text(length))?,
            Marker::Str16 => self.length(2).and_then(|length| self.text(length))?,
            Marker::Str32 => self.length(4).and_then(|length| self.text(length))?,
            Marker::Bin8 => self.bin(1)?,
            Marker::Bin16 => self.bin(2)?,
            Marker::Bin32 => self.bin(4)?,
            Marker::FixArray(length) => Head::Array(length.into()),
            Marker::Array16 => Head::Array(self.length(2)?),
            Marker::Array32 => Head::Array(self.length(4)?),
            Marker::FixMap(length) => Head::Map(length.into()),
            Marker::Map16 => Head::Map(self.length(2)?),
            Marker::Map32 => Head::Map(self.length(4)?),
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.length(1).and_then(|length| self.extension(length))?,
            Marker::Ext16 => self.length(2).and_then(|length| self.extension(length))?,
            Marker::Ext32 => self.length(4).and_then(|length| self.extension(length))?,
            Marker::True | Marker::False | Marker::Reserved => Head::Other,
        })
    }

    /// Passes over one whole value. Counts instead of recursing, so nesting costs
    /// nothing, and ends with the bytes, whatever a length claims.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        self.skip_many(1)
    }

    /// Passes over `count` whole values.
    pub(super) fn skip_many(&mut self, count: usize) -> Result<(), Fault> {
        let mut pending = count;
        while pending > 0 {
            pending -= 1;
            let inside = match self.head()? {
                Head::Array(length) => length,
                Head::Map(length) => length.saturating_mul(2),
                _ => 0,
            };
            pending = pending.saturating_add(inside);
            // Each value is at least one byte; a forged length ends here at once.
            if pending > self.left() {
                return Err(Fault::Truncated);
            }
        }
        Ok(())
    }

    /// The bytes of one whole value.
    pub(super) fn raw(&mut self) -> Result<&'a [u8], Fault> {
        let before = self.rest;
        self.skip()?;
        before.get(..before.len() - self.rest.len()).ok_or(Fault::Truncated)
    }

    /// An array's length, or nothing for nil.
    pub(super) fn array(&mut self) -> Result<Option<usize>, Fault> {
        match self.head()? {
            Head::Nil => Ok(None),
            Head::Array(length) if length <= self.left() => Ok(Some(length)),
            Head::Array(_) => Err(Fault::Truncated),
            _ => Err(Fault::Kind),
        }
    }

    /// Text, or nothing for nil and the empty text, which engines use alike.
    pub(super) fn optional_text(&mut self) -> Result<Option<&'a str>, Fault> {
        match self.head()? {
            Head::Nil => Ok(None),
            Head::Text(text) => Ok(Some(utf8(text)?).filter(|text| !text.is_empty())),
            _ => Err(Fault::Kind),
        }
    }

    /// A number that fits a `u32`, or nothing for nil.
    pub(super) fn optional_u32(&mut self) -> Result<Option<u32>, Fault> {
        match self.head()? {
            Head::Nil => Ok(None),
            Head::Unsigned(number) => Ok(Some(u32::try_from(number).map_err(|_| Fault::Kind)?)),
            _ => Err(Fault::Kind),
        }
    }
}

pub(super) fn utf8(text: &[u8]) -> Result<&str, Fault> {
    str::from_utf8(text).map_err(|_| Fault::Kind)
}
