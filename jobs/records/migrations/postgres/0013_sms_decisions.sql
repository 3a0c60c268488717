-- When a person has said whether the message was sent; forgotten when it is sent after all.
ALTER TABLE sms_intents ADD COLUMN decided_at BIGINT;
