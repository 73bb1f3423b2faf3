//! Looking at what was stored, from beside a serving hub: SQL that can only read, and the newest
//! items.

use super::{Folder, schema};
use anyhow::{Context, Result, bail};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

/// Most rows one query gives.
const ROWS_LIMIT: usize = 1_000_000;

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Bytes.
    Blob(Vec<u8>),
    /// A whole number.
    Integer(i64),
    /// Nothing.
    Null,
    /// A number with a fraction.
    Real(f64),
    /// Text; invalid UTF-8 is replaced.
    Text(String),
}

/// The result of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Each with as many cells as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

/// An item with what the hub noted when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredItem {
    /// Rises with each item.
    pub id: i64,
    /// When it came, UTC.
    pub received_at: String,
    /// The host it is about.
    pub computer: String,
    /// `DataType` of its envelope.
    pub data_type: String,
    /// The item as it came, JSON.
    pub item: String,
}

/// A hub's database, opened so that nothing can be written.
pub struct Reader {
    db: Connection,
}

impl Reader {
    /// Opens the folder's database.
    pub fn open(folder: &Folder) -> Result<Self> {
        Ok(Reader {
            db: schema::open_read_only(&folder.database())?,
        })
    }

    /// Runs one SQL statement that reads.
    pub fn query(&self, sql: &str) -> Result<Rows> {
        let mut statement = self.db.prepare(sql).context("cannot run the query")?;
        if !statement.readonly() || statement.column_count() == 0 {
            bail!("cannot run the query: only statements that read are allowed, such as SELECT");
        }
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut found = statement.query(()).context("cannot run the query")?;
        let mut rows = Vec::new();
        while let Some(row) = found.next().context("cannot run the query")? {
            if rows.len() == ROWS_LIMIT {
                bail!("the query gives more than {ROWS_LIMIT} rows: add a LIMIT");
            }
            let cells = (0..columns.len()).map(|i| row.get_ref(i).map(Cell::from));
            rows.push(cells.collect::<Result<_, _>>()?);
        }
        Ok(Rows { columns, rows })
    }

    /// The newest `count` items, of one type or of any, oldest of them first.
    pub fn newest(&self, count: usize, data_type: Option<&str>) -> Result<Vec<StoredItem>> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let mut newest = match data_type {
            Some(data_type) => self.items(
                "WHERE data_type = ?1 ORDER BY id DESC LIMIT ?2",
                (data_type, count),
            ),
            None => self.items("ORDER BY id DESC LIMIT ?1", (count,)),
        }?;
        newest.reverse();
        Ok(newest)
    }

    /// Up to 1000 items that came after item `id`, oldest first.
    pub fn after(&self, id: i64, data_type: Option<&str>) -> Result<Vec<StoredItem>> {
        match data_type {
            Some(data_type) => self.items(
                "WHERE data_type = ?1 AND id > ?2 ORDER BY id LIMIT 1000",
                (data_type, id),
            ),
            None => self.items("WHERE id > ?1 ORDER BY id LIMIT 1000", (id,)),
        }
    }

    fn items(&self, which: &str, params: impl rusqlite::Params) -> Result<Vec<StoredItem>> {
        let sql = format!("SELECT id, received_at, computer, data_type, item FROM items {which}");
        let mut statement = self.db.prepare(&sql)?;
        let rows = statement.query_map(params, |row| {
            Ok(StoredItem {
                id: row.get(0)?,
                received_at: row.get(1)?,
                computer: row.get(2)?,
                data_type: row.get(3)?,
                item: row.get(4)?,
            })
        })?;
        rows.collect::<Result<_, _>>()
            .context("cannot read the items")
    }
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(i) => Cell::Integer(i),
            ValueRef::Real(r) => Cell::Real(r),
            ValueRef::Text(t) => Cell::Text(String::from_utf8_lossy(t).into_owned()),
            ValueRef::Blob(b) => Cell::Blob(b.to_vec()),
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        text.map_or(Cell::Null, Cell::Text)
    }
}

impl Rows {
    /// The rows as JSON objects, one a line. Two columns of one name: the later one counts.
    pub fn to_json(&self) -> Vec<String> {
        let object = |row: &Vec<Cell>| {
            let pairs = self.columns.iter().zip(row);
            let texts: Vec<String> = pairs
                .map(|(name, cell)| {
                    format!("{}:{}", serde_json::Value::from(&**name), cell.to_json())
                })
                .collect();
            format!("{{{}}}", texts.join(","))
        };
        self.rows.iter().map(object).collect()
    }
}

impl Cell {
    fn to_json(&self) -> serde_json::Value {
        match self {
            Cell::Null => serde_json::Value::Null,
            Cell::Integer(i) => (*i).into(),
            Cell::Real(r) => (*r).into(),
            Cell::Text(t) => t.as_str().into(),
            Cell::Blob(b) => hex(b).into(),
        }
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("hub")).unwrap();
        schema::open(&folder.database()).unwrap();
        (temp, folder)
    }

    #[test]
    fn values_of_each_kind_come_out() {
        let (_temp, folder) = folder();
        let reader = Reader::open(&folder).unwrap();
        let sql = "SELECT 1 AS i, 2.5 AS r, 'a\"b' AS t, NULL AS n, x'00ff' AS b";
        let rows = reader.query(sql).unwrap();
        assert_eq!(
            rows.to_json(),
            [r#"{"i":1,"r":2.5,"t":"a\"b","n":null,"b":"00ff"}"#]
        );
    }

    #[test]
    fn nothing_can_be_written() {
        let (temp, folder) = folder();
        let reader = Reader::open(&folder).unwrap();
        let other = temp.path().join("other.db");
        for bad in [
            "INSERT INTO workspaces (id, name, created_at) VALUES ('a', 'b', 'c')",
            "DELETE FROM items",
            "DROP TABLE items",
            "CREATE TABLE x (y)",
            "PRAGMA user_version = 7",
            "SELECT 1; DELETE FROM items",
            "WITH x AS (SELECT 1) DELETE FROM items",
            &format!("VACUUM INTO '{}'", other.display()),
            &format!("ATTACH '{}' AS other", other.display()),
            "",
            "-- nothing",
        ] {
            assert!(reader.query(bad).is_err(), "{bad}");
        }
        let _ = reader.query("PRAGMA query_only = OFF");
        assert!(reader.query("DELETE FROM items RETURNING id").is_err());
        assert!(!other.exists());
        assert!(reader.query("SELECT count(*) FROM Syslog").is_ok());
        assert!(reader.query("PRAGMA user_version").is_ok());
        assert!(
            reader
                .query("EXPLAIN QUERY PLAN SELECT * FROM Heartbeat")
                .is_ok()
        );
    }
}
