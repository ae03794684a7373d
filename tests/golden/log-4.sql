PRAGMA application_id = 1213547074;
PRAGMA user_version = 4;
BEGIN TRANSACTION;
CREATE TABLE batches (
    place INTEGER PRIMARY KEY,  -- rooms.id << 40 | last seq
    count INTEGER NOT NULL,
    ts INTEGER NOT NULL,  -- Of the last post, milliseconds since 1970; rises within a room.
    body BLOB NOT NULL  -- Empty where it lies in a segment.
, position INTEGER NOT NULL DEFAULT 0, size_bytes INTEGER NOT NULL DEFAULT 0, crc INTEGER);
INSERT INTO "batches" VALUES(1099511627780,2,1700000002000,X'',1099511627957,60,1021199175);
INSERT INTO "batches" VALUES(1099511627781,1,1700000003000,X'',1099511628139,40,2497394362);
INSERT INTO "batches" VALUES(1099511627784,3,1700000005000,X'',1099511628265,48,1448437546);
INSERT INTO "batches" VALUES(2199023255553,1,1700000004000,X'',1099511628179,38,398589878);
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO "meta" VALUES('epoch',624685197);
INSERT INTO "meta" VALUES('indexed',1099511628313);
INSERT INTO "meta" VALUES('secret',X'48224E934953DDDE02B8E7F0F884C4C2274098211DE7FE6C3A8E081F3BD48BE4');
CREATE TABLE rooms (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    first INTEGER NOT NULL,  -- The oldest entry kept.
    trimmed INTEGER NOT NULL,  -- The newest entry dropped; the head of a room without rows.
    topic TEXT NOT NULL
);
INSERT INTO "rooms" VALUES(1,'lobby',0,3,2,'Welcome');
INSERT INTO "rooms" VALUES(2,'café',0,1,0,'');
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    live_bytes INTEGER NOT NULL  -- Of the batches that are not dropped yet.
);
INSERT INTO "segments" VALUES(1,186);
CREATE TABLE senders (
    sender BLOB PRIMARY KEY,
    ts INTEGER NOT NULL,
    marks BLOB NOT NULL  -- MessagePack: {number: payload of its ACK} of the last SENDs.
) WITHOUT ROWID;
INSERT INTO "senders" VALUES(X'000102030405060708090A0B0C0D0E0F',1700000003000,X'8201C40F9201919301CF0000018BCFE56800A002C40F9202919305CF0000018BCFE573B8A0');
CREATE TABLE sends (
    id INTEGER PRIMARY KEY,  -- One per writing of the index, until it is in `senders`.
    marks BLOB NOT NULL  -- MessagePack: {sender: {number: payload of its ACK}}
);
COMMIT;
