-- How much is there?
SELECT (SELECT count(*) FROM authors) AS authors, (SELECT count(*) FROM books) AS books,
       (SELECT count(*) FROM copies) AS copies, (SELECT count(*) FROM members) AS members,
       (SELECT count(*) FROM loans) AS loans;

-- Full text: titles with "river" or "bridge" and a word that begins with "for", best match first
SELECT b.title, a.name AS author, b.year
FROM books_fts JOIN books b ON b.id = books_fts.rowid JOIN authors a ON a.id = b.author_id
WHERE books_fts MATCH '(river OR bridge) AND for*' ORDER BY rank, b.id LIMIT 5;

-- The ten books that were lent most
SELECT title, author, loans FROM popular_books LIMIT 10;

-- Who is late, and by how many days? (seen from the first of July 2025)
SELECT member, title, due, CAST(julianday('2025-07-01') - julianday(due) AS INTEGER) AS days_late
FROM open_loans WHERE due < '2025-07-01' ORDER BY days_late DESC, loan_id LIMIT 10;

-- Loans per month in 2024, with a running total
SELECT month, loans, sum(loans) OVER (ORDER BY month) AS total
FROM (SELECT strftime('%Y-%m', lent) AS month, count(*) AS loans FROM loans
      WHERE lent >= '2024-01-01' AND lent < '2025-01-01' GROUP BY 1) ORDER BY month;

-- Most read genre in each town
WITH per AS (
  SELECT m.town, g.name AS genre, count(*) AS loans,
         row_number() OVER (PARTITION BY m.town ORDER BY count(*) DESC, g.name) AS place
  FROM loans l JOIN members m ON m.id = l.member_id JOIN copies c ON c.id = l.copy_id
       JOIN books b ON b.id = c.book_id JOIN genres g ON g.id = b.genre_id
  GROUP BY m.town, g.name)
SELECT town, genre, loans FROM per WHERE place = 1 ORDER BY town;

-- Authors who write in the most genres
SELECT a.name, count(DISTINCT b.genre_id) AS genres, count(*) AS books, min(b.year) || '–' || max(b.year) AS years
FROM authors a JOIN books b ON b.author_id = a.id GROUP BY a.id ORDER BY genres DESC, books DESC, a.name LIMIT 5;

-- Copies that nobody has ever lent, by shelf
SELECT substr(c.shelf, 1, 1) AS hall, count(*) AS copies
FROM copies c WHERE NOT EXISTS (SELECT 1 FROM loans l WHERE l.copy_id = c.id) GROUP BY 1 ORDER BY 1;

-- Who reads what a given member reads? (members with the most books in common with member 7)
WITH mine AS (SELECT DISTINCT c.book_id FROM loans l JOIN copies c ON c.id = l.copy_id WHERE l.member_id = 7)
SELECT m.name, count(DISTINCT c.book_id) AS books_in_common
FROM loans l JOIN copies c ON c.id = l.copy_id JOIN members m ON m.id = l.member_id
WHERE c.book_id IN (SELECT book_id FROM mine) AND m.id <> 7
GROUP BY m.id ORDER BY books_in_common DESC, m.id LIMIT 5;

-- How long do people keep books, by genre? (days)
SELECT g.name AS genre, count(*) AS loans, round(avg(julianday(l.returned) - julianday(l.lent)), 1) AS days
FROM loans l JOIN copies c ON c.id = l.copy_id JOIN books b ON b.id = c.book_id JOIN genres g ON g.id = b.genre_id
WHERE l.returned IS NOT NULL GROUP BY g.id ORDER BY days DESC, genre;
