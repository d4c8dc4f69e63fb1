// SPDX-License-Identifier: MIT
// Emits the events of Polymarket's exchanges and token ledgers, as asked, and nothing else: the
// listener's tests run it on a real node. Event signatures as published for CTF Exchange V1 and V2,
// ConditionalTokens (ERC-1155) and NegRiskAdapter. Compiled with solc 0.8.37, evmVersion paris,
// optimizer on; LeaderLogs.json beside it holds the bytecode and ABI.
pragma solidity ^0.8.20;

contract LeaderLogs {
    // Where this exchange's matches move tokens; none for a ledger.
    LeaderLogs public immutable ledger;

    constructor(LeaderLogs ledger_) {
        ledger = ledger_;
    }

    event OrderFilled(
        bytes32 indexed orderHash, address indexed maker, address indexed taker, uint8 side,
        uint256 tokenId, uint256 makerAmountFilled, uint256 takerAmountFilled, uint256 fee,
        bytes32 builder, bytes32 metadata
    );
    event OrderFilled(
        bytes32 indexed orderHash, address indexed maker, address indexed taker,
        uint256 makerAssetId, uint256 takerAssetId, uint256 makerAmountFilled,
        uint256 takerAmountFilled, uint256 fee
    );
    event OrdersMatched(
        bytes32 indexed takerOrderHash, address indexed takerOrderMaker, uint8 side,
        uint256 tokenId, uint256 makerAmountFilled, uint256 takerAmountFilled
    );
    event Transfer(address indexed from, address indexed to, uint256 value);
    event TransferSingle(
        address indexed operator, address indexed from, address indexed to, uint256 id,
        uint256 value
    );
    event TransferBatch(
        address indexed operator, address indexed from, address indexed to, uint256[] ids,
        uint256[] values
    );
    event PositionSplit(
        address indexed stakeholder, address collateralToken, bytes32 indexed parentCollectionId,
        bytes32 indexed conditionId, uint256[] partition, uint256 amount
    );
    event PositionsMerge(
        address indexed stakeholder, address collateralToken, bytes32 indexed parentCollectionId,
        bytes32 indexed conditionId, uint256[] partition, uint256 amount
    );
    event PayoutRedemption(
        address indexed redeemer, address indexed collateralToken,
        bytes32 indexed parentCollectionId, bytes32 conditionId, uint256[] indexSets,
        uint256 payout
    );
    event PositionsConverted(
        address indexed stakeholder, bytes32 indexed marketId, uint256 indexed indexSet,
        uint256 amount
    );

    // A match as the exchange settles it: the maker's fill, the taker's own, the tokens, the match.
    function matchOrders(
        address maker, address taker, uint8 takerSide, uint256 token, uint256 cash, uint256 shares,
        uint256 fee
    ) external {
        bytes32 order = keccak256(abi.encode(maker, taker, token, cash, shares, block.number));
        bool buys = takerSide == 0;
        address seller = buys ? maker : taker;
        address buyer = buys ? taker : maker;
        ledger.move(address(this), seller, buyer, token, shares);
        emit OrderFilled(
            order, maker, taker, 1 - takerSide, token, buys ? shares : cash, buys ? cash : shares,
            0, bytes32(0), bytes32(0)
        );
        emit OrderFilled(
            order, taker, address(this), takerSide, token, buys ? cash : shares,
            buys ? shares : cash, fee, bytes32(0), bytes32(0)
        );
        emit OrdersMatched(
            order, taker, takerSide, token, buys ? cash : shares, buys ? shares : cash
        );
    }

    // One maker's fill, `count` times over: a block full of logs.
    function fills(address maker, address taker, uint256 token, uint256 count) external {
        for (uint256 i = 0; i < count; i++) {
            emit OrderFilled(
                bytes32(i), maker, taker, 0, token, 400000 + i, 1000000, 0, bytes32(0), bytes32(0)
            );
        }
    }

    function filledV1(
        address maker, address taker, uint256 gives, uint256 takes, uint256 given, uint256 taken
    ) external {
        emit OrderFilled(bytes32(uint256(1)), maker, taker, gives, takes, given, taken, 7);
    }

    function move(address operator, address from, address to, uint256 token, uint256 amount)
        external
    {
        emit TransferSingle(operator, from, to, token, amount);
    }

    function split(address who, uint256[] calldata tokens, uint256[] calldata amounts) external {
        emit Transfer(who, address(0), amounts[0]);
        emit PositionSplit(
            address(this), address(this), bytes32(0), bytes32(uint256(9)), tokens, amounts[0]
        );
        emit TransferBatch(address(this), address(0), who, tokens, amounts);
    }

    function merge(address who, uint256[] calldata tokens, uint256[] calldata amounts) external {
        emit TransferBatch(address(this), who, address(0), tokens, amounts);
        emit PositionsMerge(
            address(this), address(this), bytes32(0), bytes32(uint256(9)), tokens, amounts[0]
        );
        emit Transfer(address(0), who, amounts[0]);
    }

    function redeem(address who, uint256[] calldata tokens, uint256[] calldata amounts) external {
        emit TransferBatch(address(this), who, address(0), tokens, amounts);
        emit PayoutRedemption(
            address(this), address(this), bytes32(0), bytes32(uint256(9)), tokens, amounts[0]
        );
        emit Transfer(address(0), who, amounts[0]);
    }

    function convert(
        address who, uint256 no, uint256 yes, uint256 amount
    ) external {
        emit TransferSingle(address(this), who, address(0), no, amount);
        emit TransferSingle(address(this), address(0), who, yes, amount);
        emit PositionsConverted(address(this), bytes32(uint256(9)), 1, amount);
    }
}
