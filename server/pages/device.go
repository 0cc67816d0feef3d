package pages

import (
	"time"

	"github.com/gin-gonic/gin"
)

// BadUserCode says that no device waits with the code.
const BadUserCode Problem = "problem.user_code"

// Device is the page on which a user types the code that a device shows.
type Device struct {
	UserCode   string
	Problem    Problem
	RetryAfter time.Duration
}

// Minutes is how long to wait.
func (d Device) Minutes() int { return minutes(d.RetryAfter) }

// Device writes the page that asks for a device's code.
func (p *Pages) Device(c *gin.Context, status int, v Device) {
	p.render(c, status, nil, "device", "device.title", v)
}

// AskingDevice is what users are shown of a device that asks: whoever holds it may not be the one who reads this.
type AskingDevice struct {
	UserCode       string
	Address, Agent string
	Age            time.Duration
}

// Minutes is how long ago it asked.
func (d AskingDevice) Minutes() int { return minutes(d.Age) }
