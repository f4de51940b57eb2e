"""The convolutional net in torch that the files convnet_*.py are ports of: batch norm, max pool, flatten, dense."""

from torch import nn

CLASSES = 5


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.pool1 = nn.MaxPool2d(3, stride=2, padding=1)
        self.act1 = nn.LeakyReLU(0.1)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.act2 = nn.SiLU()
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pool2 = nn.AvgPool2d(3, stride=1, padding=1)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(8 * 4 * 4, 24)
        self.act3 = nn.GELU()
        self.fc2 = nn.Linear(24, CLASSES)
        self.last = nn.LogSoftmax(-1)

    def forward(self, x):
        x = self.act1(self.pool1(self.bn1(self.conv1(x))))
        x = self.act2(self.bn2(self.conv2(x)))
        x = x + self.pool2(self.depthwise(x))
        x = self.act3(self.fc1(self.flatten(x)))
        return self.last(self.fc2(x))
