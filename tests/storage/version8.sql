CREATE TABLE addresses (
	peer BLOB NOT NULL, 
	endpoint VARCHAR(190) NOT NULL, 
	verified_at INTEGER NOT NULL, 
	failing_since INTEGER NOT NULL, 
	teller BLOB NOT NULL, 
	PRIMARY KEY (peer, endpoint)
);
CREATE TABLE attachments (
	id INTEGER NOT NULL, 
	root BLOB NOT NULL, 
	size INTEGER NOT NULL, 
	PRIMARY KEY (id, root)
);
CREATE INDEX attachments_by_root ON attachments (root);
CREATE TABLE cites (
	log INTEGER NOT NULL, 
	first INTEGER NOT NULL, 
	gen INTEGER NOT NULL, 
	chain8 BLOB NOT NULL, 
	PRIMARY KEY (log, first)
);
CREATE TABLE consumers (
	name VARCHAR(190) NOT NULL, 
	place INTEGER NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE conversations (
	number INTEGER NOT NULL, 
	id BLOB NOT NULL, 
	naming TEXT, 
	PRIMARY KEY (number), 
	UNIQUE (id)
);
CREATE TABLE entries (
	id INTEGER NOT NULL, 
	conversation INTEGER NOT NULL, 
	c INTEGER NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX entries_by_clock ON entries (conversation, c);
CREATE TABLE forks (
	log INTEGER NOT NULL, 
	one TEXT NOT NULL, 
	other TEXT NOT NULL, 
	PRIMARY KEY (log)
);
CREATE TABLE former_names (
	owner INTEGER NOT NULL, 
	name BLOB NOT NULL, 
	c INTEGER NOT NULL, 
	PRIMARY KEY (owner, name)
);
CREATE TABLE heads (
	id INTEGER NOT NULL, 
	size INTEGER NOT NULL, 
	c INTEGER NOT NULL, 
	chain BLOB NOT NULL, 
	sig BLOB NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE heard (
	log INTEGER NOT NULL, 
	member INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	PRIMARY KEY (log, member)
);
CREATE TABLE holders (
	root BLOB NOT NULL, 
	peer BLOB NOT NULL, 
	told_at INTEGER NOT NULL, 
	PRIMARY KEY (root, peer)
);
CREATE TABLE host_marks (
	log INTEGER NOT NULL, 
	host INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	told INTEGER NOT NULL, 
	PRIMARY KEY (log, host, version)
);
CREATE TABLE hosted (
	id BLOB NOT NULL, 
	secret BLOB NOT NULL, 
	name BLOB NOT NULL, 
	created_at INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE logs (
	number INTEGER NOT NULL, 
	conversation INTEGER NOT NULL, 
	writer INTEGER NOT NULL, 
	run BLOB NOT NULL, 
	state SMALLINT NOT NULL, 
	whole SMALLINT NOT NULL, 
	builds_on BLOB NOT NULL, 
	PRIMARY KEY (number)
);
CREATE UNIQUE INDEX logs_by_run ON logs (conversation, run, writer);
CREATE INDEX logs_by_state ON logs (state);
CREATE INDEX logs_by_writer ON logs (writer, conversation, number);
CREATE TABLE mendings (
	id INTEGER NOT NULL, 
	conversation INTEGER NOT NULL, 
	run BLOB NOT NULL, 
	seq INTEGER NOT NULL, 
	writer BLOB NOT NULL, 
	author INTEGER NOT NULL, 
	reaction SMALLINT NOT NULL, 
	c INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX mendings_by_message ON mendings (conversation, run, seq, writer, author, reaction, c);
CREATE TABLE meta (
	name VARCHAR(190) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE places (
	first_place INTEGER NOT NULL, 
	start INTEGER NOT NULL, 
	entries INTEGER NOT NULL, 
	received_at INTEGER NOT NULL, 
	flags SMALLINT NOT NULL, 
	PRIMARY KEY (first_place), 
	UNIQUE (start)
);
CREATE TABLE pruned (
	log INTEGER NOT NULL, 
	size INTEGER NOT NULL, 
	c INTEGER NOT NULL, 
	chain BLOB NOT NULL, 
	messages INTEGER NOT NULL, 
	place INTEGER NOT NULL, 
	received_at INTEGER NOT NULL, 
	upto INTEGER NOT NULL, 
	PRIMARY KEY (log)
);
CREATE TABLE read_marks (
	log INTEGER NOT NULL, 
	reader INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	PRIMARY KEY (log, reader)
);
CREATE TABLE seen (
	log INTEGER NOT NULL, 
	upto INTEGER NOT NULL, 
	PRIMARY KEY (log)
);
CREATE TABLE stays (
	host INTEGER NOT NULL, 
	guest INTEGER NOT NULL, 
	since INTEGER NOT NULL, 
	ended INTEGER NOT NULL, 
	PRIMARY KEY (host, guest, since)
);
CREATE TABLE taken_marks (
	log INTEGER NOT NULL, 
	reader INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	PRIMARY KEY (log, reader)
);
CREATE TABLE tokens (
	hash BLOB NOT NULL, 
	owner BLOB NOT NULL, 
	created_at INTEGER NOT NULL, 
	label TEXT NOT NULL, 
	PRIMARY KEY (hash)
);
CREATE INDEX ix_tokens_owner ON tokens (owner);
CREATE TABLE users (
	number INTEGER NOT NULL, 
	id BLOB NOT NULL, 
	name TEXT, 
	named_c BIGINT, 
	about TEXT, 
	PRIMARY KEY (number), 
	UNIQUE (id)
);
CREATE TABLE waiting (
	log INTEGER NOT NULL, 
	released INTEGER NOT NULL, 
	PRIMARY KEY (log)
);
