-- wake.lua: looks for keys whose moment has come (the linger over, a later reached, a hold at its next probe), wakes slots
-- for them, and lets those die whose window has closed. Harmless at any time.

promote()
sweep()
return finish('ok')
