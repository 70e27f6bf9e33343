-- release.lua: ends the app's hold, because an operator says that what caused it is mended.

promote()
release()
wake()
return reply('ok')
