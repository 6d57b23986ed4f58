//! Rows of an answer.

use std::error::Error;
use std::ops::Range;

use bytes::Bytes;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::DataRowBody;
use postgres_types::{FromSql, Type};
use uuid::Uuid;

pub(crate) struct Row {
    bytes: Bytes,
    columns: Vec<Option<Range<usize>>>,
}

/// A row or a column has an unexpected form.
pub(crate) type Malformed = Box<dyn Error + Send + Sync>;

impl Row {
    pub(crate) fn new(body: &DataRowBody) -> Result<Self, Malformed> {
        Ok(Self { bytes: body.buffer_bytes().clone(), columns: body.ranges().collect()? })
    }

    /// Copies the columns of a row.
    #[cfg(feature = "sqlx-0_8")]
    pub(crate) fn of(values: &[Option<&[u8]>]) -> Self {
        let mut bytes = Vec::with_capacity(values.iter().flatten().map(|value| value.len()).sum());
        let mut append = |value: &[u8]| {
            bytes.extend_from_slice(value);
            bytes.len() - value.len()..bytes.len()
        };
        let columns = values.iter().map(|value| value.map(&mut append)).collect();
        Self { bytes: bytes.into(), columns }
    }

    pub(crate) fn get<'r, T: Column<'r>>(&'r self, index: usize) -> Result<T, Malformed> {
        let range = self.columns.get(index).ok_or("a column is missing")?;
        T::from_sql_nullable(&T::TYPE, range.clone().map(|range| &self.bytes[range]))
    }
}

/// A type that a column can be read as. The server does not describe columns, because they are
/// known.
pub(crate) trait Column<'r>: FromSql<'r> {
    const TYPE: Type;
}

macro_rules! columns {
    ($($column:ty: $type:ident),* $(,)?) => {
        $(impl<'r> Column<'r> for $column { const TYPE: Type = Type::$type; })*
    };
}

columns! {
    bool: BOOL,
    i32: INT4,
    i64: INT8,
    Vec<i64>: INT8_ARRAY,
    String: TEXT,
    Vec<String>: TEXT_ARRAY,
    &'r str: TEXT,
    &'r [u8]: BYTEA,
    Uuid: UUID,
    Vec<Uuid>: UUID_ARRAY,
}

impl<'r, T: Column<'r>> Column<'r> for Option<T> {
    const TYPE: Type = T::TYPE;
}
