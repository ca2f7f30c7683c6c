-- Where nothing can be sent: a region, or the part of it whose postal codes begin like that.
CREATE TABLE unshippable_places (
  region_code   TEXT NOT NULL, -- CLDR, two letters
  postal_prefix TEXT NOT NULL, -- capitals and digits; '' is the whole region
  PRIMARY KEY (region_code, postal_prefix)
);

-- An example of an embargo list. Whoever ships in earnest loads the one that binds them.
INSERT INTO unshippable_places (region_code, postal_prefix) VALUES
  ('CU', ''),                                                       -- Cuba
  ('IR', ''),                                                       -- Iran
  ('KP', ''),                                                       -- North Korea
  ('SY', ''),                                                       -- Syria
  ('UA', '95'), ('UA', '96'), ('UA', '97'), ('UA', '98'),           -- Crimea
  ('UA', '99'),                                                     -- Sevastopol
  ('UA', '83'), ('UA', '84'), ('UA', '85'), ('UA', '86'), ('UA', '87'), -- Donetsk
  ('UA', '91'), ('UA', '92'), ('UA', '93'), ('UA', '94');           -- Luhansk
