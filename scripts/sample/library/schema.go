package library

// tables comes before the rows.
const tables = `CREATE TABLE genres(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
);
CREATE TABLE authors(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  born INTEGER NOT NULL,
  country TEXT NOT NULL
);
CREATE TABLE books(
  id INTEGER PRIMARY KEY,
  title TEXT NOT NULL,
  author_id INTEGER NOT NULL REFERENCES authors(id),
  genre_id INTEGER NOT NULL REFERENCES genres(id),
  year INTEGER NOT NULL CHECK (year BETWEEN 1800 AND 2025),
  pages INTEGER NOT NULL CHECK (pages > 0),
  rating REAL
);
CREATE TABLE copies(
  id INTEGER PRIMARY KEY,
  book_id INTEGER NOT NULL REFERENCES books(id) ON DELETE CASCADE,
  shelf TEXT NOT NULL,
  bought TEXT NOT NULL,
  barcode BLOB NOT NULL UNIQUE
);
CREATE TABLE members(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  email TEXT NOT NULL UNIQUE,
  town TEXT NOT NULL,
  joined TEXT NOT NULL
);
CREATE TABLE loans(
  id INTEGER PRIMARY KEY,
  copy_id INTEGER NOT NULL REFERENCES copies(id),
  member_id INTEGER NOT NULL REFERENCES members(id),
  lent TEXT NOT NULL,
  due TEXT NOT NULL,
  returned TEXT,
  CHECK (due > lent),
  CHECK (returned IS NULL OR returned >= lent)
);
`

// rest comes after the rows.
const rest = `CREATE INDEX books_by_author ON books(author_id);
CREATE INDEX books_by_genre ON books(genre_id, year);
CREATE INDEX copies_by_book ON copies(book_id);
CREATE INDEX loans_by_copy ON loans(copy_id);
CREATE INDEX loans_by_member ON loans(member_id, lent);
CREATE INDEX loans_that_are_open ON loans(due) WHERE returned IS NULL;
CREATE VIRTUAL TABLE books_fts USING fts5(title, content='books', content_rowid='id');
INSERT INTO books_fts(books_fts) VALUES('rebuild');
CREATE TRIGGER books_inserted AFTER INSERT ON books BEGIN
  INSERT INTO books_fts(rowid, title) VALUES (new.id, new.title);
END;
CREATE TRIGGER books_deleted AFTER DELETE ON books BEGIN
  INSERT INTO books_fts(books_fts, rowid, title) VALUES ('delete', old.id, old.title);
END;
CREATE TRIGGER books_updated AFTER UPDATE OF title ON books BEGIN
  INSERT INTO books_fts(books_fts, rowid, title) VALUES ('delete', old.id, old.title);
  INSERT INTO books_fts(rowid, title) VALUES (new.id, new.title);
END;
CREATE TRIGGER a_copy_is_lent_once BEFORE INSERT ON loans
WHEN new.returned IS NULL AND EXISTS (SELECT 1 FROM loans WHERE copy_id = new.copy_id AND returned IS NULL)
BEGIN
  SELECT RAISE(ABORT, 'this copy is lent already');
END;
CREATE VIEW open_loans AS
  SELECT l.id AS loan_id, m.name AS member, b.title, l.lent, l.due
  FROM loans l JOIN members m ON m.id = l.member_id JOIN copies c ON c.id = l.copy_id JOIN books b ON b.id = c.book_id
  WHERE l.returned IS NULL;
CREATE VIEW popular_books AS
  SELECT b.id, b.title, a.name AS author, count(l.id) AS loans
  FROM books b JOIN authors a ON a.id = b.author_id JOIN copies c ON c.book_id = b.id JOIN loans l ON l.copy_id = c.id
  GROUP BY b.id ORDER BY loans DESC, b.title, b.id;
`
