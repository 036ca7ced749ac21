process.on('message',m=>process.send({x:m.x+1}))
